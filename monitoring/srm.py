"""Sample ratio mismatch: do the variants get the shares of the visitors that they should? If not, nothing else counts.

The probability that a Beta mixture around the intended share gives to the units seen, over the one that the share
itself gives them, is a factor that reaches K with a probability of 1/K at most, however often somebody looks (Ville
1939; Lindon and Malek, "Anytime-valid inference for multinomial count data", NeurIPS 2022). So the alarm may be looked
at all the time. Each unit may be counted once.
"""

import math
from typing import Final, NamedTuple

PROBABILITY: Final = 0.001
LEAST_DEVIATION: Final = 0.001  # a share that is off by less is nobody's concern
STRENGTH: Final = 1_000.0  # the mixture expects shares that are off by about 0.5 / sqrt(STRENGTH)


class Ratio(NamedTuple):
    """What became of a split: `observed` is treatment's share, `p` an upper bound that holds at every look."""

    control: int
    treatment: int
    intended: float
    observed: float
    p: float

    @property
    def alarm(self) -> bool:
        return self.p < PROBABILITY and abs(self.observed - self.intended) >= LEAST_DEVIATION


def ratio(control: int, treatment: int, intended: float) -> Ratio:
    """Judge counts of different units; `intended` is the share that treatment should get, from 0 to 1.

    A share of 0 or 1 leaves no ratio to judge: there p is 1.
    """
    units = control + treatment
    if not units or not 0 < intended < 1:
        return Ratio(control, treatment, intended, treatment / units if units else math.nan, 1.0)
    return Ratio(
        control, treatment, intended, treatment / units, math.exp(min(0.0, -log_factor(control, treatment, intended)))
    )


def log_factor(control: int, treatment: int, intended: float) -> float:
    """The logarithm of the factor by which the mixture explains the counts better than the intended share."""
    a, b = STRENGTH * intended, STRENGTH * (1 - intended)
    mixture = _log_beta(a + treatment, b + control) - _log_beta(a, b)
    return mixture - treatment * math.log(intended) - control * math.log1p(-intended)


def _log_beta(a: float, b: float) -> float:
    return math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b)
