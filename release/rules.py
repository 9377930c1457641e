"""What a canary is held to: the families of bad events, and the numbers that a verdict keeps."""

import math
from typing import Final, NamedTuple

import msgspec

CONFIDENCE: Final = 0.99
STAGES: Final = (1, 5, 25, 50, 100)
WINDOW_SCRAPES: Final = 2  # of a p99: 30 s when scraped every 15 s
RELEASE_PERIOD_SECONDS: Final = 600.0
HOTFIX_PERIOD_SECONDS: Final = 300.0


class Family(NamedTuple):
    """One way in which a ranking can be bad. `margin`: how many times the baseline's rate is still tolerated."""

    name: str
    margin: float
    says: str


# Every way to end but ok is a family, so that there is no way to fail which nobody counts.
FAMILIES: Final = (
    Family("error", 1.25, "rankings that failed (status 500)"),
    Family("shed", 1.25, "rankings refused at the door (status 503)"),
    Family("expired", 1.25, "rankings whose deadline passed (status 504)"),
    Family("cancelled", 1.25, "rankings whose caller left"),
    Family("invalid", 1.25, "rankings whose request was refused as invalid (status 4xx)"),
    Family("slow", 1.25, "rankings slower than promised"),
    Family("very_slow", 1.25, "rankings slower than twice what is promised"),
    Family("unusable", 1.0, "rankings that are empty or hold a score that is not finite"),
)
TESTS: Final = len(FAMILIES) + 1  # and the p99: what the share of false FAILs is divided among


class Rules(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How one stage is judged. Raises `ValueError` for what cannot be meant.

    scrape_seconds: how often both arms are scraped, and looked at.
    period_seconds: what is judged before a canary may pass; a multiple of a p99's window.
    extensions: how many more periods it gets to show what it has to show.
    slo_seconds: the promised latency.
    p99_ratio: how many times the baseline's p99 is still tolerated.
    false_fail: the largest share of good canaries that may FAIL, however often they are looked at.
    share: the canary's expected share of the requests of both arms; None: by the number of targets.
    share_tolerance: how far off the share may be, relatively, before it counts as a mismatch.
    canary_code, baseline_code: the code version that has to run; None: whatever runs.
    code_only: the release changes no model, so models and golden scores must be those of the baseline.
    hotfix: only hard faults and bad events are judged, not latency and share.
    stage: the percentage of all traffic that the canary takes, for the record.
    """

    scrape_seconds: float = 15.0
    period_seconds: float = RELEASE_PERIOD_SECONDS
    extensions: int = 3
    slo_seconds: float = 0.1
    p99_ratio: float = 1.10
    false_fail: float = 0.01
    share: float | None = None
    share_tolerance: float = 0.05
    canary_code: str | None = None
    baseline_code: str | None = None
    code_only: bool = False
    hotfix: bool = False
    stage: int | None = None

    def __post_init__(self) -> None:
        for name in ("scrape_seconds", "period_seconds", "slo_seconds", "p99_ratio", "false_fail", "share_tolerance"):
            msgspec.structs.force_setattr(self, name, float(getattr(self, name)))  # 600 and 600.0 are the same evidence
        if not 0.1 <= self.scrape_seconds <= 300:
            raise ValueError(f"scrapes are 0.1 to 300 s apart, not {self.scrape_seconds:g} s")
        windows = self.period_seconds / (WINDOW_SCRAPES * self.scrape_seconds)
        if not 1 <= windows <= 10_000 or abs(windows - round(windows)) > 1e-6:
            window = WINDOW_SCRAPES * self.scrape_seconds
            raise ValueError(f"a period is a multiple of {window:g} s, which {self.period_seconds:g} s is not")
        if not 0 <= self.extensions <= 100:
            raise ValueError(f"0 to 100 extensions, not {self.extensions}")
        if not (0 < self.slo_seconds < math.inf and 1 <= self.p99_ratio < math.inf):
            raise ValueError(f"SLO {self.slo_seconds:g} s and p99 ratio {self.p99_ratio:g}: at least 0 s and 1")
        if not 0 < self.false_fail < 1 or not 0 <= self.share_tolerance < 1:
            raise ValueError(f"{self.false_fail:g} false FAILs, {self.share_tolerance:g} tolerance: shares are below 1")
        if self.share is not None and not 0 < self.share < 1:
            raise ValueError(f"the canary's share of both arms is between 0 and 1, not {self.share:g}")
        if self.stage is not None and self.stage not in STAGES:
            raise ValueError(f"stages are {', '.join(map(str, STAGES))} %, not {self.stage} %")

    @property
    def looks(self) -> int:
        """In a period."""
        return round(self.period_seconds / self.scrape_seconds)

    @property
    def rate_bound(self) -> float:
        """The excess of a bad event's rate that has to be excluded before a canary passes."""
        return 0.01 if self.hotfix else 0.001

    @property
    def requests(self) -> int:
        """Without a bad event among so many, `rate_bound` is excluded with 99 % confidence: 4,605, or 460."""
        return int(-math.log(1 - CONFIDENCE) / self.rate_bound)

    @property
    def factor(self) -> float:
        """The Bayes factor that FAILs: Ville's bound on false FAILs, shared among all tests."""
        return TESTS / self.false_fail

    @property
    def next_stage(self) -> int | None:
        later = [stage for stage in STAGES if self.stage is not None and stage > self.stage]
        return later[0] if later else None
