"""Is the canary worse? A test that may be looked at after every scrape without its share of false alarms growing.

Of the bad events that both arms had between two looks, the canary's share is X. If it makes them at r times the
baseline's rate and takes the share p of the requests, X is r p / (r p + 1 - p) in the mean: call that m(r). A bet on
r against the tolerated ratio pays X m(r) / m(margin) + (1 - X) (1 - m(r)) / (1 - m(margin)), which is 1 or less in the
mean wherever the canary is tolerable, and the likelihood ratio itself where there is one event. The product of what
was paid, averaged over `ALTERNATIVES`, is the factor: the probability that it *ever* reaches K is at most 1 / K (Ville
1939; mixtures: Robbins, Ann. Math. Statist. 41, 1970; bets on a mean: Waudby-Smith and Ramdas, JRSS B 86, 2024).

One stretch is one observation, however many events it had. Bad events come in bursts: a batch fails as a whole, a
stall makes everybody late who is there. A test that takes each for an observation of its own alarms at bursts.

p is taken anew from the requests of each stretch: when replicas are added under load, the share of the traffic and
the rate of events change together, and that is no evidence against the canary. And one more bad event of the canary
raises every bet's pay, so it can never help it.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

# Times the baseline's rate. All are above every margin, so that only a canary that is worse is ever paid for.
ALTERNATIVES: Final = np.array([1.5, 2.0, 3.0, 5.0, 10.0, 100.0])


def log_pays(canary: Array, baseline: Array, share: Array | float, margin: Array | float) -> Array:
    """Return the logarithm of what each bet pays for each stretch: (..., n) -> (..., n, alternatives).

    canary, baseline: bad events of each stretch.
    share: the canary's share of the requests of each stretch. margin: the ratio that is tolerated, 1 or more.
    """
    events = canary + baseline
    part = np.divide(canary, events, out=np.zeros_like(events), where=events > 0)[..., None]
    share, margin = np.asarray(share)[..., None], np.asarray(margin)[..., None]
    pays = np.log1p(part * (ALTERNATIVES / margin - 1))
    pays -= np.log((ALTERNATIVES * share + 1 - share) / (margin * share + 1 - share))
    return np.where(events[..., None] > 0, pays, 0.0)


def log_factor(log_pays: Array) -> Array:
    """Return the logarithm of the factor, of what each bet paid in all: (..., alternatives) -> (...)."""
    top = log_pays.max(axis=-1, keepdims=True)
    return np.asarray(top[..., 0] + np.log(np.exp(log_pays - top).mean(axis=-1)))
