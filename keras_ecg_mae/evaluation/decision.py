"""Net benefit of referring ECGs from a probability on, against referring all and none."""

from dataclasses import dataclass

import numpy as np

from keras_ecg_mae.evaluation.clustered import Estimate, Sample, estimate

THRESHOLDS = np.arange(1, 51) / 100


@dataclass(frozen=True)
class NetBenefit:
    """At one threshold; referring none has a net benefit of 0.

    Attributes:
        threshold: the probability from which an ECG is referred. One missed patient weighs as much as
            `(1 - threshold) / threshold` needless referrals.
        model: referring by the probabilities.
        refer_all: referring every ECG.
        gain: `model` minus the better of `refer_all` and 0, with the interval of that difference.
    """

    threshold: float
    model: Estimate
    refer_all: float
    gain: Estimate


def net_benefit(sample: Sample, threshold: float, confidence: float = 0.95) -> NetBenefit:
    """True positives minus weighted false positives, an ECG (Vickers & Elkin, Medical Decision Making 26, 2006).

    Args:
        threshold: in (0, 1); a probability of at least this is referred, as in R's dcurves.
    """
    worth = np.where(sample.positive, 1.0, -threshold / (1 - threshold))
    by_model = worth * (sample.probabilities >= threshold)
    refer_all = float(worth.mean())
    gain = by_model - worth if refer_all > 0 else by_model
    model, gained = (
        estimate(sample, float(each.mean()), (each - each.mean()) / len(sample), "identity", confidence)
        for each in (by_model, gain)
    )
    return NetBenefit(threshold, model, refer_all, gained)


def decision_curve(sample: Sample, confidence: float = 0.95) -> list[NetBenefit]:
    """The net benefit at each of `THRESHOLDS`."""
    return [net_benefit(sample, float(threshold), confidence) for threshold in THRESHOLDS]
