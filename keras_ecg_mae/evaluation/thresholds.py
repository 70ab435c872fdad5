"""The threshold by a rule, and what follows from it: likelihood ratios, and what an examination of 1,000 would find."""

from dataclasses import dataclass

import numpy as np

from keras_ecg_mae.evaluation.clustered import Estimate, Sample, estimate
from keras_ecg_mae.evaluation.metrics import youden_threshold

PREVALENCES = (0.005, 0.01, 0.02, 0.05, 0.09, 0.15, 0.20)


def choose_threshold(rule: str, labels: np.ndarray, probabilities: np.ndarray) -> float | None:
    """The threshold that a rule of `--threshold_rule` finds on these ECGs; None unless both labels occur.

    `youden` has the largest sensitivity + specificity - 1. `sensitivity=S` is the highest threshold with a sensitivity
    of at least S, `specificity=S` the lowest one with at least that specificity. They lie midway between neighbouring
    probabilities where there are two.
    """
    positive, probabilities = np.asarray(labels) == 1, np.asarray(probabilities, dtype=np.float64)
    if rule == "youden" or positive.all() or not positive.any():
        return youden_threshold(labels, probabilities)
    kind, wanted = rule.split("=")
    values, keys = np.unique(probabilities, return_inverse=True)
    found = np.bincount(keys, positive)
    # Calling positive from values[k] on; from beyond the last one, nothing is.
    sensitivity = 1 - np.concatenate([[0], np.cumsum(found)]) / found.sum()
    cleared = np.bincount(keys, ~positive)
    specificity = np.concatenate([[0], np.cumsum(cleared)]) / cleared.sum()
    reached = (sensitivity if kind == "sensitivity" else specificity) >= float(wanted) - 1e-12
    place = int(np.flatnonzero(reached)[-1 if kind == "sensitivity" else 0])
    if place in (0, len(values)):
        return float(values[0] if place == 0 else np.nextafter(values[-1], 2))
    middle = (values[place - 1] + values[place]) / 2
    return float(middle if middle > values[place - 1] else values[place])


def describe_rule(rule: str) -> str:
    """A rule in words."""
    if rule == "youden":
        return "largest sensitivity + specificity - 1 (Youden)"
    kind, wanted = rule.split("=")
    return f"{'highest' if kind == 'sensitivity' else 'lowest'} with a {kind} of at least {float(wanted):g}"


@dataclass(frozen=True)
class LikelihoodRatios:
    """How much the odds of a positive label grow with a probability from the threshold on, and with one under it."""

    positive: Estimate
    negative: Estimate


def likelihood_ratios(sample: Sample, threshold: float, confidence: float = 0.95) -> LikelihoodRatios:
    """sensitivity / (1 - specificity), and (1 - sensitivity) / specificity, with intervals on the log scale."""
    called = sample.probabilities >= threshold
    return LikelihoodRatios(_ratio(sample, called, confidence), _ratio(sample, ~called, confidence))


def _ratio(sample: Sample, hits: np.ndarray, confidence: float) -> Estimate:
    """The share of `hits` among positive ECGs over that among negative ones."""
    if sample.missing:
        return Estimate(None, undefined=sample.missing)
    among = [float(hits[which].mean()) for which in (sample.positive, ~sample.positive)]
    if among[1] == 0:
        return Estimate(None, undefined="no negative ECG on this side of the threshold")
    if among[0] == 0:
        return Estimate(0.0, undefined="no positive ECG on this side of the threshold")
    shares = [(hits / share - 1) / count for share, count in zip(among, _counts(sample), strict=True)]
    derivatives = np.where(sample.positive, shares[0], -shares[1])
    value = among[0] / among[1]
    # `derivatives` are those of the logarithm.
    return estimate(sample, value, value * derivatives, "log", confidence)


def _counts(sample: Sample) -> tuple[int, int]:
    return sample.positives, len(sample) - sample.positives


def positive_predictive_value(ratios: LikelihoodRatios, prevalence: float) -> Estimate:
    """The share of positives among those called positive, where sensitivity and specificity are as they are here."""
    odds = prevalence / (1 - prevalence)
    return ratios.positive.map(lambda ratio: ratio * odds / (1 + ratio * odds))


def negative_predictive_value(ratios: LikelihoodRatios, prevalence: float) -> Estimate:
    """The share of negatives among those called negative, where sensitivity and specificity are as they are here."""
    odds = prevalence / (1 - prevalence)
    return ratios.negative.map(lambda ratio: 1 / (1 + ratio * odds))


@dataclass(frozen=True)
class PerThousand:
    """Of 1,000 ECGs at a prevalence: called positive, found among them, missed; echocardiograms per case found."""

    flagged: float
    found: float
    missed: float
    echocardiograms_per_case: float | None


def per_thousand(sensitivity: float, specificity: float, prevalence: float) -> PerThousand:
    """What calling positive leads to, where everyone called positive has an echocardiogram."""
    found = 1000 * prevalence * sensitivity
    flagged = found + 1000 * (1 - prevalence) * (1 - specificity)
    return PerThousand(flagged, found, 1000 * prevalence - found, flagged / found if found else None)
