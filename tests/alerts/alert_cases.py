"""For every alert a world in which it fires and one, not far from it, in which it does not."""

from dataclasses import dataclass, field

HOUR, DAY = 60, 1440

UP = 'up{job="frontrow", instance="a"}'
OTHER = 'up{job="frontrow", instance="b"}'


@dataclass(frozen=True)
class Case:
    """`series`: selector -> values a minute in promtool's notation. `says` is the summary if it fires, None if not."""

    alert: str
    name: str
    series: dict[str, str]
    at_minutes: int
    says: str | None = None
    labels: dict[str, str] = field(default_factory=dict)


def rankings(minutes: int, **by_outcome: float) -> dict[str, str]:
    """So many rankings a minute, by outcome."""
    everything = {"ok": 0.0, "shed": 0.0, "expired": 0.0, "error": 0.0, "invalid": 0.0, "cancelled": 0.0} | by_outcome
    return {
        f'frontrow_requests_total{{variant="control", outcome="{outcome}"}}': f"0+{each}x{minutes}"
        for outcome, each in everything.items()
    }


def durations(minutes: int, fast: float, slow: float) -> dict[str, str]:
    """So many rankings a minute, below and above 100 ms."""
    name = "frontrow_request_duration_seconds"
    return {
        f'{name}_bucket{{variant="control", le="0.1"}}': f"0+{fast}x{minutes}",
        f'{name}_bucket{{variant="control", le="+Inf"}}': f"0+{fast + slow}x{minutes}",
        f'{name}_count{{variant="control"}}': f"0+{fast + slow}x{minutes}",
    }


def bad_then_well(bad: int, well: int) -> dict[str, str]:
    """Minutes in which a tenth is shed, then minutes in which nothing is."""
    return {
        'frontrow_requests_total{variant="control", outcome="ok"}': f"0+900x{bad + well}",
        'frontrow_requests_total{variant="control", outcome="shed"}': f"0+100x{bad} {100 * bad}x{well}",
    }


def shed(minutes: int, each: float) -> dict[str, str]:
    return {
        'frontrow_shed_total{variant="control", reason="too_late"}': f"0+{each}x{minutes}",
        'frontrow_requests_offered_total{variant="control"}': f"0+1000x{minutes}",
    }


def model(*, last_known_good: int) -> dict[str, str]:
    of = '{variant="control", instance="a"}'
    return {
        f"frontrow_model_verified_timestamp_seconds{of}": "0x300",
        f"frontrow_model_last_known_good{of}": f"{last_known_good}x300",
    }


def catalog(minutes: int, *, loaded_at: float) -> dict[str, str]:
    """An instance that began at 0 and took in activities so many seconds later."""
    of = '{variant="control", instance="a"}'
    return {
        f"frontrow_model_loaded_timestamp_seconds{of}": f"0x{minutes}",
        f"frontrow_catalog_loaded_timestamp_seconds{of}": f"{loaded_at}x{minutes}",
    }


def drift(kind: str, of: dict[str, str], *, psi: float, alarm: str) -> dict[str, str]:
    labels = ", ".join(f'{name}="{value}"' for name, value in of.items())
    return {
        f'frontrow_{kind}_drift_psi{{{labels}, instance="a"}}': f"{psi}x20",
        f'frontrow_{kind}_drift_alarm{{{labels}, instance="a"}}': alarm,
        f'frontrow_{kind}_drift_psi{{{labels}, instance="b"}}': "0x20",
        f'frontrow_{kind}_drift_alarm{{{labels}, instance="b"}}': "0x20",
    }


COST = 'frontrow_cost_scale{instance="a", variant="control"}'
INSTANCE = {"instance": "a"}
CONTROL = {"variant": "control"}
PRICE = CONTROL | {"feature": "price"}

CASES = (
    Case("FrontrowDown", "no instance answers", {UP: "1x5 0x10", OTHER: "1x5 0x10"}, 10,
         "No instance of Frontrow answers: nobody gets a ranking"),
    Case("FrontrowDown", "there is no instance", {}, 5,
         "No instance of Frontrow answers: nobody gets a ranking"),
    Case("FrontrowDown", "one of two answers", {UP: "1x15", OTHER: "1x5 0x10"}, 10),

    Case("FrontrowTargetMissing", "one is away for six minutes", {UP: "1x5 0x10", OTHER: "1x15"}, 12,
         "a does not answer Prometheus", {"instance": "a", "job": "frontrow"}),
    Case("FrontrowTargetMissing", "one is away for a minute", {UP: "1x5 0 1x9", OTHER: "1x15"}, 12),

    Case("FrontrowNotReady", "one is not ready for long", {'frontrow_ready{instance="a"}': "0x20"}, 15,
         "a runs and is not ready", INSTANCE),
    Case("FrontrowNotReady", "one is started", {'frontrow_ready{instance="a"}': "0x5 1x15"}, 15),

    Case("FrontrowAvailabilityFastBurn", "2 % fail", rankings(90, ok=980, error=10, shed=7, expired=3), 80,
         "2% of rankings are refused or fail: 2 % of the month's budget went in an hour", {"slo": "availability"}),
    Case("FrontrowAvailabilityFastBurn", "1.2 % fail", rankings(90, ok=988, error=12), 80),
    Case("FrontrowAvailabilityFastBurn", "callers send nonsense and leave",
         rankings(90, ok=500, invalid=300, cancelled=200), 80),
    Case("FrontrowAvailabilityFastBurn", "it was bad and is over", bad_then_well(50, 30), 75),
    Case("FrontrowAvailabilityFastBurn", "nobody asks", rankings(90), 80),

    Case("FrontrowAvailabilityBurn", "0.8 % fail for six hours", rankings(7 * HOUR, ok=992, shed=8), 6 * HOUR,
         "0.8% of rankings are refused or fail: 5 % of the month's budget went in six hours", {"slo": "availability"}),
    Case("FrontrowAvailabilityBurn", "0.5 % fail for six hours", rankings(7 * HOUR, ok=995, shed=5), 6 * HOUR),

    Case("FrontrowAvailabilitySlowBurn", "0.2 % fail for three days", rankings(3 * DAY, ok=998, expired=2), 3 * DAY,
         "0.2% of rankings are refused or fail: 10 % of the month's budget went in three days",
         {"slo": "availability"}),
    Case("FrontrowAvailabilitySlowBurn", "0.08 % fail for three days",
         rankings(3 * DAY, ok=999.2, expired=0.8), 3 * DAY),

    Case("FrontrowLatencyFastBurn", "a fifth is slow", durations(90, 800, 200), 80,
         "20% of rankings take more than 100 ms: 2 % of the month's budget went in an hour", {"slo": "latency"}),
    Case("FrontrowLatencyFastBurn", "a tenth is slow", durations(90, 900, 100), 80),
    Case("FrontrowLatencyBurn", "8 % are slow for six hours", durations(7 * HOUR, 920, 80), 6 * HOUR,
         "8% of rankings take more than 100 ms: 5 % of the month's budget went in six hours", {"slo": "latency"}),
    Case("FrontrowLatencyBurn", "5 % are slow for six hours", durations(7 * HOUR, 950, 50), 6 * HOUR),
    Case("FrontrowLatencySlowBurn", "2 % are slow for three days", durations(3 * DAY, 980, 20), 3 * DAY,
         "2% of rankings take more than 100 ms: 10 % of the month's budget went in three days", {"slo": "latency"}),
    Case("FrontrowLatencySlowBurn", "0.8 % are slow for three days", durations(3 * DAY, 992, 8), 3 * DAY),

    Case("FrontrowShedding", "2 % are shed", shed(20, 20), 15, "2% of rankings are refused at the door"),
    Case("FrontrowShedding", "half a percent is shed", shed(20, 5), 15),

    Case("FrontrowScoringSlow", "four times slower", {COST: "1x5 4x20"}, 20,
         "a scores 4.0 times slower than when it started", {"instance": "a", "variant": "control"}),
    Case("FrontrowScoringSlow", "slow for a moment", {COST: "1x5 4x3 1x20"}, 20),

    Case("FrontrowFeatureDrift", "a feature drifts", drift("feature", PRICE, psi=0.15, alarm="1x20"), 10,
         "price of the control model is not as trained: PSI 0.15", PRICE),
    Case("FrontrowFeatureDrift", "chance explains it", drift("feature", PRICE, psi=0.15, alarm="0x20"), 10),
    Case("FrontrowFeatureDrift", "it drifts so far that it is a page",
         drift("feature", PRICE, psi=0.5, alarm="2x20"), 10),
    Case("FrontrowFeatureDriftSevere", "a feature is another one", drift("feature", PRICE, psi=4, alarm="2x20"), 10,
         "price of the control model is not as trained: PSI 4.00", PRICE),
    Case("FrontrowFeatureDriftSevere", "a feature drifts", drift("feature", PRICE, psi=0.2, alarm="1x20"), 10),
    Case("FrontrowScoreDrift", "scores drift", drift("score", CONTROL, psi=0.12, alarm="1x20"), 10,
         "The score of the control model is not as trained: PSI 0.12", CONTROL),
    Case("FrontrowScoreDrift", "scores are as ever", drift("score", CONTROL, psi=0.05, alarm="0x20"), 10),
    Case("FrontrowScoreDriftSevere", "scores are others", drift("score", CONTROL, psi=0.5, alarm="2x20"), 10,
         "The score of the control model is not as trained: PSI 0.50", CONTROL),
    Case("FrontrowScoreDriftSevere", "they were others and are mended",
         drift("score", CONTROL, psi=0.01, alarm="2x5 0x15"), 10),

    Case("FrontrowSampleRatioMismatch", "it is told", {"frontrow_srm_alarm": "0x5 1x20"}, 20,
         "Variants do not get the visitors that the split gives them: the experiment's figures mean nothing"),
    Case("FrontrowSampleRatioMismatch", "it is not", {"frontrow_srm_alarm": "0x25"}, 20),

    Case("FrontrowModelStale", "last known good for two hours", model(last_known_good=1), 120,
         "a serves a control model that no registry has confirmed for 2h 0m 0s",
         {"instance": "a", "variant": "control"}),
    Case("FrontrowModelStale", "last known good for half an hour", model(last_known_good=1), 30),
    Case("FrontrowModelStale", "confirmed at the start two hours ago", model(last_known_good=0), 120),

    Case("FrontrowCatalogStale", "renewed three days ago and not since", catalog(4 * DAY, loaded_at=HOUR * 60),
         3 * DAY, "a ranks with activities of 2d 23h 0m 0s ago", INSTANCE),
    Case("FrontrowCatalogStale", "renewed a day ago", catalog(4 * DAY, loaded_at=2 * DAY * 60), 3 * DAY),
    Case("FrontrowCatalogStale", "came with the model", catalog(4 * DAY, loaded_at=20), 3 * DAY),

    Case("FrontrowFeatureStoreDegraded", "one instance ranks without it",
         {'frontrow_feature_store_degraded{instance="a"}': "1x20", 'frontrow_feature_store_degraded{instance="b"}':
          "0x20"}, 15, "Visitors are ranked without their histories: the feature store does not answer"),
    Case("FrontrowFeatureStoreDegraded", "it was away for two minutes",
         {'frontrow_feature_store_degraded{instance="a"}': "1x2 0x20"}, 15),
)  # fmt: skip
