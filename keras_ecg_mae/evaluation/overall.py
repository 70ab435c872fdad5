"""AUPRC and Brier score with intervals: measures of the probabilities as a whole, beside AUROC."""

import numpy as np

from keras_ecg_mae.evaluation.clustered import Estimate, Sample, estimate


def average_precision(sample: Sample, confidence: float = 0.95) -> Estimate:
    """Average precision, the step-wise area under the precision-recall curve, ties taken together."""
    if sample.missing:
        return Estimate(None, undefined=sample.missing)
    order = np.argsort(-sample.probabilities, kind="stable")
    positive, probabilities = sample.positive[order], sample.probabilities[order]
    # Of each run of equal probabilities, the places of its first and its last ECG.
    changes = np.flatnonzero(np.diff(probabilities))
    ends = np.concatenate([changes, [len(order) - 1]])
    runs = np.concatenate([[0], np.cumsum(np.diff(probabilities) != 0)])
    found, called = np.cumsum(positive)[ends], ends + 1
    own = np.diff(found, prepend=0)
    precision, total = found / called, sample.positives
    value = float(own @ precision / total)
    # An ECG's weight counts in the precision of its own run and of all with lower probabilities.
    from_here_found = np.cumsum((own / called)[::-1])[::-1]
    from_here_called = np.cumsum((own * found / called**2)[::-1])[::-1]
    derivatives = np.empty(len(order))
    derivatives[order] = (positive * (precision[runs] - value + from_here_found[runs]) - from_here_called[runs]) / total
    if value == 1:
        return Estimate(value, undefined="all positive ECGs lie above all negative ones")
    return estimate(sample, value, derivatives, "logit", confidence)


def brier(sample: Sample, confidence: float = 0.95) -> Estimate:
    """Mean squared difference of probability and label (Brier, Monthly Weather Review 78, 1950)."""
    losses = (sample.probabilities - sample.positive) ** 2
    value = float(losses.mean())
    if value == 0:
        return Estimate(value, undefined="every probability is its label")
    return estimate(sample, value, (losses - value) / len(sample), "log", confidence)


def scaled_brier(sample: Sample, confidence: float = 0.95) -> Estimate:
    """1 - Brier score over that of the share of positives: 1 is perfect, 0 tells nothing (Steyerberg et al. 2010)."""
    if sample.missing:
        return Estimate(None, undefined=sample.missing)
    losses, share = (sample.probabilities - sample.positive) ** 2, sample.prevalence
    loss, reference = float(losses.mean()), share * (1 - share)
    derivatives = (loss / reference * (1 - 2 * share) * (sample.positive - share) - (losses - loss)) / reference
    return estimate(sample, 1 - loss / reference, derivatives / len(sample), "identity", confidence)
