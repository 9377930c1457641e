"""Who may become champion: a version that ranked better than the live one on the same queries.

Training compares and leaves the figures as tags on the version; here they are read, so that whoever promotes needs
neither the data nor the models. What is missing or was compared with another version never passes.
"""

from collections.abc import Mapping

LIVE = "champion"
METRIC = "ndcg@10"

_WITH = "compared_with"
_ON = "compared_on"
_GAIN, _LOW, _HIGH = (f"ndcg_at_10_gain{end}" for end in ("", "_low", "_high"))


class NotBetter(Exception):
    """The version is not known to rank better than the live one. No alias was moved."""


def comparison_tags(version: str, table: str, gain: float, low: float, high: float) -> dict[str, str]:
    """The tags of a version that was compared with the live `version`: NDCG@10 gained, with a 95 % interval."""
    return {_WITH: version, _ON: table, _GAIN: f"{gain:.6f}", _LOW: f"{low:.6f}", _HIGH: f"{high:.6f}"}


def check_better(tags: Mapping[str, str], live: str) -> str:
    """Say what the tags of a version say about it and the `live` version. Raises `NotBetter`."""
    if _WITH not in tags:
        raise NotBetter(f"it was never compared with version {live}, which is live")
    if tags[_WITH] != live:
        raise NotBetter(f"it was compared with version {tags[_WITH]}, and version {live} is live now")
    try:
        gain, low, high = (float(tags[name]) for name in (_GAIN, _LOW, _HIGH))
    except (KeyError, ValueError):
        raise NotBetter(f"its tags {_GAIN}, {_LOW} and {_HIGH} do not compare it with version {live}") from None
    figures = f"NDCG@10 {gain:+.4f} ({low:+.4f} to {high:+.4f}) against version {live} on {tags.get(_ON, 'its table')}"
    if not low > 0:
        raise NotBetter(f"{figures}: {'worse' if high < 0 else 'no better, as far as these queries can tell'}")
    return figures
