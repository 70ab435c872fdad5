"""Calibration: in the large, slope and intercept, and as a smooth curve, with intervals by patient."""

from dataclasses import dataclass

import numpy as np
from scipy.special import expit, logit
from scipy.stats import t as student_t
from statsmodels.discrete.discrete_model import Logit

from keras_ecg_mae.evaluation.clustered import Estimate, Sample, estimate, patient_covariance

# Probabilities of 0 and 1 have no logit; float32 tells none nearer to 1 than this.
_NEAREST = 2.0**-24
# Fewer patients with either label than this, and a curve with three slopes bends after single ones.
CURVE_PATIENTS = 30
# Under this many positive patients the band is too narrow at its lower end: with 100 it held the truth in 89% of
# simulated cohorts, with 1,000 in 94% (tests/evaluation/test_coverage.py holds it over 87 and 93).
BAND_PATIENTS = 500
_KNOTS = (0.05, 0.35, 0.65, 0.95)


@dataclass(frozen=True)
class Calibration:
    """How well probabilities are numbers of positives among ECGs.

    Attributes:
        observed_to_expected: positive ECGs over the sum of the probabilities; 1 is right.
        in_the_large: what to add to the logits for the right number of positives; 0 is right.
        intercept, slope: of the logistic regression of the labels on the logits, as `rms::val.prob` has them; 0 and 1
            are right, a slope under 1 says that the probabilities are too extreme.
    """

    observed_to_expected: Estimate
    in_the_large: Estimate
    intercept: Estimate
    slope: Estimate


@dataclass(frozen=True)
class CalibrationCurve:
    """The observed share of positives over the predicted probability, with its pointwise band; arrays `(points,)`."""

    predicted: np.ndarray
    observed: np.ndarray
    low: np.ndarray
    high: np.ndarray


def calibration(sample: Sample, confidence: float = 0.95) -> Calibration:
    """Calibration by Cox, Biometrika 45 (1958), as Van Calster et al., BMC Medicine 17 (2019), ask for it."""
    logits = _logits(sample)
    if sample.missing:
        return Calibration(*[Estimate(None, undefined=sample.missing)] * 4)
    expected, ones = float(sample.probabilities.sum()), np.ones((len(sample), 1))
    if expected == 0:
        return Calibration(*[Estimate(None, undefined="every probability is 0")] * 4)
    ratio = sample.positives / expected
    by_weight = ratio * (sample.positive / sample.positives - sample.probabilities / expected)
    level, at_level = _fitted(sample, ones, logits)
    in_the_large = estimate(sample, level[0], at_level[:, 0], "identity", confidence)
    observed_to_expected = estimate(sample, ratio, by_weight, "log", confidence)
    if reason := _no_slope(sample, logits):
        return Calibration(observed_to_expected, in_the_large, *[Estimate(None, undefined=reason)] * 2)
    values, derivatives = _fitted(sample, np.column_stack([ones, logits]))
    intercept, slope = (
        estimate(sample, value, column, "identity", confidence)
        for value, column in zip(values, derivatives.T, strict=True)
    )
    return Calibration(observed_to_expected, in_the_large, intercept, slope)


def calibration_curve(sample: Sample, confidence: float = 0.95, points: int = 101) -> CalibrationCurve | None:
    """Logistic regression on a restricted cubic spline of the logits with four knots (Harrell, 2015, section 2.4.6).

    It runs from the smallest to the largest probability, without the outer 1% at either end. None where fewer than
    `CURVE_PATIENTS` patients have either label, or the probabilities are too few to bend after.
    """
    logits = _logits(sample)
    knots = np.quantile(logits, _KNOTS)
    few = min(sample.class_patients) < CURVE_PATIENTS
    if few or _no_slope(sample, logits) or np.diff(knots).min() < 1e-6:
        return None
    values, derivatives = _fitted(sample, _spline(logits, knots))
    covariance, _ = patient_covariance(sample, derivatives)
    lowest, highest = np.quantile(logits, (0.01, 0.99))
    grid = np.linspace(lowest, highest, points)
    basis = _spline(grid, knots)
    centre, error = basis @ values, np.sqrt(np.einsum("ij,jk,ik->i", basis, covariance, basis))
    free = min(sample.class_patients) - 1
    half_width = student_t.ppf(0.5 + confidence / 2, free) * error
    return CalibrationCurve(expit(grid), expit(centre), expit(centre - half_width), expit(centre + half_width))


def expected_calibration_error(sample: Sample, bins: int = 10) -> float:
    """Mean distance of probability and observed share over bins of equal width: it depends on the bins."""
    places = np.minimum((sample.probabilities * bins).astype(int), bins - 1)
    return float(np.abs(np.bincount(places, sample.positive - sample.probabilities)).sum() / len(sample))


def _logits(sample: Sample) -> np.ndarray:
    return logit(np.clip(sample.probabilities, _NEAREST, 1 - _NEAREST))


def _no_slope(sample: Sample, logits: np.ndarray) -> str:
    """Why a logistic regression on the logits has no finite slope; empty where it has."""
    if logits.min() == logits.max():
        return "all probabilities are equal"
    with_, without = logits[sample.positive], logits[~sample.positive]
    if with_.min() >= without.max() or with_.max() <= without.min():
        return "one probability parts positive from negative ECGs"
    return ""


def _fitted(sample: Sample, design: np.ndarray, offset: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Coefficients of a logistic regression `(columns,)`, and their derivatives by the ECGs' weights."""
    model = Logit(sample.positive.astype(float), design, offset=offset)
    # A trust region: from few ECGs, and from logits as far as the offset's, Newton's plain steps run away.
    near = model.fit(method="minimize", min_method="trust-exact", gtol=1e-7, disp=False, warn_convergence=False).params
    values = near - np.linalg.solve(model.hessian(near), model.score(near))
    residuals = sample.positive - model.predict(values)
    return values, -np.linalg.solve(model.hessian(values), (design * residuals[:, None]).T).T


def _spline(values: np.ndarray, knots: np.ndarray) -> np.ndarray:
    """Intercept, values and Harrell's two columns, which are linear beyond the outer knots: `(values, 4)`."""

    def cubed(knot: float) -> np.ndarray:
        return np.maximum(values - knot, 0) ** 3

    *inner, before, last = knots
    columns = [
        cubed(knot) - cubed(before) * (last - knot) / (last - before) + cubed(last) * (before - knot) / (last - before)
        for knot in inner
    ]
    scale = (last - knots[0]) ** 2
    return np.column_stack([np.ones_like(values), values, *(column / scale for column in columns)])
