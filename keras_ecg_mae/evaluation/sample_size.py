"""Whether there are enough cases for a measure: the criteria of Riley et al., Statistics in Medicine 40 (2021) 4230."""

import math
from dataclasses import dataclass

import numpy as np
from scipy.stats import norm

from keras_ecg_mae.evaluation.clustered import Sample

# Widths of the 95% intervals that Riley et al., BMJ 384 (2024) e074821, take in their examples.
OBSERVED_TO_EXPECTED_WIDTH, SLOPE_WIDTH, AUROC_WIDTH = 0.2, 0.2, 0.1
_Z = float(norm.ppf(0.975))


@dataclass(frozen=True)
class Needed:
    """Patients with one ECG each that an interval of the width wanted takes; None where it cannot be said."""

    observed_to_expected: int | None
    slope: int | None
    auroc: int | None


def needed(prevalence: float, logits: np.ndarray, weights: np.ndarray, area: float) -> Needed:
    """The numbers for a share of positives, calibrated logits `(n,)` with `weights` that add up to 1, and an AUROC."""
    if not 0 < prevalence < 1:
        return Needed(None, None, None)
    error = math.asinh(OBSERVED_TO_EXPECTED_WIDTH / 2) / _Z  # exp(z e) - exp(-z e) is the width
    for_ratio = math.ceil((1 - prevalence) / (prevalence * error**2))
    information = weights / (2 + np.exp(logits) + np.exp(-logits))  # p (1 - p)
    zero, one, two = (float(information @ logits**power) for power in range(3))
    determinant = zero * two - one**2
    for_slope = math.ceil(zero / ((SLOPE_WIDTH / (2 * _Z)) ** 2 * determinant)) if determinant > 1e-12 else None
    return Needed(for_ratio, for_slope, _for_auroc(area, prevalence) if 0.5 <= area < 1 else None)


def needed_for(sample: Sample, area: float | None) -> Needed:
    """The numbers for a cohort like this one, by its own probabilities and AUROC."""
    if area is None:
        return Needed(None, None, None)
    inside = np.clip(sample.probabilities, 2.0**-24, 1 - 2.0**-24)
    logits = np.log(inside / (1 - inside))
    return needed(sample.prevalence, logits, np.full(len(logits), 1 / len(logits)), area)


def _for_auroc(area: float, prevalence: float) -> int:
    """Smallest number at which the standard error of Newcombe, Statistics in Medicine 25 (2006), is small enough.

    Its square is the wanted one where `number**2 = linear * number + constant`.
    """
    spread = (1 - area) / (2 - area) + area / (1 + area)
    scale = area * (1 - area) / (prevalence * (1 - prevalence) * (AUROC_WIDTH / (2 * _Z)) ** 2)
    linear, constant = scale * spread / 2, scale * (1 - spread)
    return math.ceil(linear / 2 + math.sqrt(linear**2 / 4 + constant))
