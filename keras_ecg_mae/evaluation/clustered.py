"""Intervals of any smooth measure where a patient has several ECGs: the infinitesimal jackknife by patient."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.special import expit, logit
from scipy.stats import t as student_t

from keras_ecg_mae.errors import DatasetError

# Scale on which an interval is symmetric: there, the derivative of it, and back.
SCALES: dict[str, tuple[Callable, Callable, Callable]] = {
    "identity": (np.array, np.ones_like, np.array),
    "log": (np.log, lambda value: 1 / value, np.exp),
    "logit": (logit, lambda value: 1 / (value * (1 - value)), expit),
}
_SMALLEST_VARIANCE = 1e-24


@dataclass(frozen=True)
class Sample:
    """The ECGs that something is measured on.

    Attributes:
        positive: `(ecgs,)` bool.
        probabilities: `(ecgs,)` float64 in [0, 1].
        patients: `(ecgs,)` numbers from 0, equal for ECGs of one patient.
    """

    positive: np.ndarray
    probabilities: np.ndarray
    patients: np.ndarray

    @classmethod
    def of(cls, labels: np.ndarray, probabilities: np.ndarray, patients: np.ndarray) -> "Sample":
        """From labels 0 and 1, probabilities and any keys of patients.

        Raises:
            DatasetError: a label is neither 0 nor 1, or a probability is not a number from 0 to 1.
        """
        labels, probabilities = np.asarray(labels), np.asarray(probabilities, dtype=np.float64)
        for word, correct, received in (
            ("labels 0 or 1", (labels == 0) | (labels == 1), labels),
            ("probabilities from 0 to 1", (probabilities >= 0) & (probabilities <= 1), probabilities),
        ):
            if not correct.all():
                raise DatasetError(f"Expected {word}. Received {received[~correct][0]} of ECG {np.argmin(correct)}.")
        return cls(labels == 1, probabilities, np.unique(patients, return_inverse=True)[1].reshape(-1))

    def __len__(self) -> int:
        return len(self.positive)

    @property
    def positives(self) -> int:
        return int(np.count_nonzero(self.positive))

    @property
    def prevalence(self) -> float:
        return self.positives / len(self)

    @property
    def missing(self) -> str:
        """Which label does not occur, in words; empty where both do."""
        words = [word for word, which in (("positive", self.positive), ("negative", ~self.positive)) if not which.any()]
        return f"no {' or '.join(words)} ECG" if words else ""

    @cached_property
    def class_patients(self) -> tuple[int, int]:
        """How many patients have a positive ECG, and how many a negative one."""
        first, second = (int(np.count_nonzero(np.bincount(patients))) for _, patients in self.by_class)
        return first, second

    @cached_property
    def by_class(self) -> tuple[tuple[np.ndarray, np.ndarray], ...]:
        """Places of the positive ECGs and their patients, then of the negative ones."""
        places = (np.flatnonzero(which) for which in (self.positive, ~self.positive))
        return tuple((place, self.patients[place]) for place in places)

    def part(self, which: np.ndarray) -> "Sample":
        """The ECGs where `which`, `(ecgs,)` bool, holds."""
        return Sample.of(self.positive[which], self.probabilities[which], self.patients[which])


@dataclass(frozen=True)
class Estimate:
    """A measure with its interval.

    Attributes:
        value: None where it is undefined.
        low, high: bounds of the interval; None where there is none.
        standard_error: on the scale of `value`; None where there is no interval.
        undefined: why something is None; empty where nothing is.
    """

    value: float | None
    low: float | None = None
    high: float | None = None
    standard_error: float | None = None
    undefined: str = ""

    def __str__(self) -> str:
        """`0.912 (0.874-0.951)`, or why there is none; bounds are set apart by `to` where one is negative."""
        if self.value is None:
            return f"undefined ({self.undefined})"
        if self.low is None or self.high is None:
            return f"{self.value:.3f} (no interval: {self.undefined})"
        return f"{self.value:.3f} ({self.low:.3f}{' to ' if self.low < 0 else '-'}{self.high:.3f})"

    def map(self, function: Callable[[float], float]) -> "Estimate":
        """The estimate of a monotone function of this one; it has no standard error."""
        if self.value is None:
            return self
        if self.low is None or self.high is None:
            return Estimate(function(self.value), undefined=self.undefined)
        low, high = sorted((function(self.low), function(self.high)))
        return Estimate(function(self.value), low, high)


def estimate(sample: Sample, value: float, derivatives: np.ndarray, scale: str, confidence: float) -> Estimate:
    """The interval of a measure by the infinitesimal jackknife (Jaeckel 1972; Efron, Biometrika 68, 1981) by patient.

    Each ECG is given a weight, all of them 1; `derivatives`, `(ecgs,)`, are those of the measure by them. Summed by
    patient they are what a patient adds to its error. Student's t has the degrees of freedom of Satterthwaite,
    Biometrics Bulletin 2 (1946), from the positive and the negative patients, as `metrics.auroc` has them.

    Args:
        scale: on which the interval is symmetric: `"identity"`, `"log"` (above 0) or `"logit"` (in (0, 1)).
    """
    covariance, freedom = patient_covariance(sample, derivatives[:, None])
    variance = float(covariance[0, 0])
    if variance <= _SMALLEST_VARIANCE:
        return Estimate(value, undefined="no variance between patients")
    there, slope, back = SCALES[scale]
    error = float(np.sqrt(variance))
    half_width = float(student_t.ppf(0.5 + confidence / 2, freedom)) * error * float(slope(value))
    return Estimate(value, float(back(there(value) - half_width)), float(back(there(value) + half_width)), error)


def patient_covariance(sample: Sample, derivatives: np.ndarray) -> tuple[np.ndarray, float]:
    """Covariance of measures with `derivatives` `(ecgs, measures)`, `(measures, measures)`, and degrees of freedom.

    The degrees of freedom are those of the first measure.
    """
    count = int(sample.patients.max()) + 1
    shares, terms = np.zeros((count, derivatives.shape[1])), []
    for places, patients in sample.by_class:
        own = np.stack([np.bincount(patients, column[places], count) for column in derivatives.T], axis=1)
        shares += own
        terms.append(float(own[:, 0] @ own[:, 0]))
    frees = [max(patients - 1, 1) for patients in sample.class_patients]
    scale = sum(term**2 / free for term, free in zip(terms, frees, strict=True))
    return shares.T @ shares * (count / max(count - 1, 1)), sum(terms) ** 2 / scale if scale > 0 else 1.0
