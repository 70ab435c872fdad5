"""How often intervals hold the truth, with three ECGs a patient: what the pages claim, and where they mark it."""

from typing import Any

import numpy as np
import pytest
from scipy.special import expit, logit

from keras_ecg_mae.evaluation.calibration import calibration, calibration_curve
from keras_ecg_mae.evaluation.clustered import Sample
from keras_ecg_mae.evaluation.decision import net_benefit
from keras_ecg_mae.evaluation.metrics import auroc
from keras_ecg_mae.evaluation.overall import average_precision, brier, scaled_brier
from keras_ecg_mae.evaluation.thresholds import likelihood_ratios

PREVALENCE, APART, INTERCEPT, SLOPE = 0.1, 2.0, -0.24, 0.8
# Of 600,000 patients drawn once by `drawn`; the last two are set by it.
TRUTH = {
    "auroc": 0.9213,
    "auprc": 0.6656,
    "brier": 0.0536,
    "scaled brier": 0.4049,
    "observed to expected": 1.0076,
    "likelihood ratio": 6.0173,
    "net benefit": 0.0680,
    "intercept": INTERCEPT,
    "slope": SLOPE,
}


def drawn(generator: np.random.Generator, patients: int) -> Sample:
    """Scores 60% of whose variance is the patient's; the logits are shifted and too extreme."""
    sick = generator.random(patients) < PREVALENCE
    score = np.repeat(APART * sick + np.sqrt(0.6) * generator.normal(size=patients), 3)
    score += np.sqrt(0.4) * generator.normal(size=3 * patients)
    right = logit(PREVALENCE) + APART * score - APART**2 / 2
    return Sample.of(np.repeat(sick, 3), expit((right - INTERCEPT) / SLOPE), np.repeat(np.arange(patients), 3))


@pytest.mark.slow
@pytest.mark.parametrize(("positives", "replicates"), [(20, 600), (100, 400), (1000, 100)])
def test_intervals_hold_the_truth_as_often_as_they_say(positives: int, replicates: int) -> None:
    generator = np.random.default_rng(positives)
    hits, band = dict.fromkeys(TRUTH, 0), []
    for _ in range(replicates):
        sample = drawn(generator, round(positives / PREVALENCE))
        at = calibration(sample)
        found: dict[str, Any] = {
            "auroc": auroc(sample.positive, sample.probabilities, sample.patients),
            "auprc": average_precision(sample),
            "brier": brier(sample),
            "scaled brier": scaled_brier(sample),
            "observed to expected": at.observed_to_expected,
            "likelihood ratio": likelihood_ratios(sample, 0.1).positive,
            "net benefit": net_benefit(sample, 0.1).model,
            "intercept": at.intercept,
            "slope": at.slope,
        }
        for name, truth in TRUTH.items():
            low, high = found[name].low, found[name].high
            hits[name] += low is not None and high is not None and low <= truth <= high
        if positives >= 100 and (curve := calibration_curve(sample)):
            truth = expit(INTERCEPT + SLOPE * logit(curve.predicted))
            band.append(((curve.low <= truth) & (truth <= curve.high))[[10, 50, 90]])
    # A coverage of 95% varies by this between simulations of so many replicates.
    luck = 2 * np.sqrt(0.95 * 0.05 / replicates)
    for name, count in hits.items():
        assert 0.93 - luck <= count / replicates <= 0.97 + luck, name
    if band:
        covered = np.mean(band, axis=0)
        lowest = 0.93 if positives >= 500 else 0.87  # which the page says
        assert covered[0] >= lowest - luck
        assert (covered[1:] >= 0.93 - luck).all()
