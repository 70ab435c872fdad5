"""One number from several institutions: random-effects summary and prediction interval."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import t as student_t
from statsmodels.stats.meta_analysis import combine_effects

from keras_ecg_mae.evaluation.clustered import SCALES, Estimate


@dataclass(frozen=True)
class Summary:
    """Of one measure.

    Attributes:
        institutions: how many of them have a standard error, and are in it.
        mean: over institutions; its interval is by Student's t, or Hartung & Knapp's (2001) where that is wider.
        prediction_low, prediction_high: where the value of another institution like these is expected; None under three
            of them.
        tau: standard deviation between institutions, on the scale of the summary.
    """

    institutions: int
    mean: Estimate
    prediction_low: float | None = None
    prediction_high: float | None = None
    tau: float | None = None


def across_institutions(estimates: Sequence[Estimate], scale: str, confidence: float = 0.95) -> Summary:
    """Random-effects summary (Paule & Mandel 1982) as Snell et al., Stat Methods Med Res 27 (2018), recommend it.

    Args:
        estimates: one an institution; those without a standard error are left out.
        scale: `"logit"` for AUROC, `"log"` for observed over expected, `"identity"` for slope and intercept.
    """
    there, slope, back = SCALES[scale]
    pairs = [(each.value, each.standard_error) for each in estimates if each.standard_error is not None]
    count = len(pairs)
    if count < 2:
        return Summary(count, Estimate(None, undefined=f"{count} institution{'s' * (count != 1)} with an interval"))
    values, errors = np.array(pairs, dtype=float).T
    with np.errstate(divide="ignore"):  # institutions that agree have a share of variance between them of -inf
        combined = combine_effects(there(values), (errors * slope(values)) ** 2, method_re="iterated", use_t=True)
    # Of the random effects, plain and scaled: the scaled one can be too narrow where institutions agree by chance.
    _, plain, _, scaled = combined.conf_int(alpha=1 - confidence)
    low, high = min(plain[0], scaled[0]), max(plain[1], scaled[1])
    centre, tau = float(combined.mean_effect_re), float(np.sqrt(combined.tau2))
    mean = Estimate(float(back(centre)), float(back(low)), float(back(high)))
    if count < 3:
        return Summary(count, mean, tau=tau)
    half_width = student_t.ppf(0.5 + confidence / 2, count - 2) * np.hypot(tau, combined.sd_eff_w_re)
    return Summary(count, mean, float(back(centre - half_width)), float(back(centre + half_width)), tau)
