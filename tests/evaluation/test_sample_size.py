"""How many patients a measure needs, against the numbers of Riley et al.'s formulas for cohorts like the paper's."""

import numpy as np
import pytest
from scipy.stats import norm

from keras_ecg_mae.evaluation.clustered import Sample
from keras_ecg_mae.evaluation.sample_size import needed, needed_for


# Columns: share of positives, AUROC, and the numbers for O:E, slope and C statistic by pmvalsampsize's formulas with
# widths of 0.2, 0.2 and 0.1 and a linear predictor that is normal in each class; the slope's were simulated there.
@pytest.mark.parametrize(
    ("prevalence", "area", "ratio", "slope", "auroc"),
    [
        (0.09, 0.92, 3898, 3015, 384),
        (0.05, 0.95, 7324, 4428, 413),
        (0.13, 0.92, 2580, 2421, 279),
        (0.02, 0.90, 18887, 9109, 1994),
    ],
)
def test_published_formulas(prevalence: float, area: float, ratio: int, slope: int, auroc: int) -> None:
    apart = np.sqrt(2) * norm.ppf(area)
    score = np.linspace(-8, 8 + apart, 4001)
    weights = prevalence * norm.pdf(score - apart) + (1 - prevalence) * norm.pdf(score)
    logits = np.log(prevalence / (1 - prevalence)) + apart * score - apart**2 / 2
    numbers = needed(prevalence, logits, weights / weights.sum(), area)
    assert numbers.observed_to_expected == pytest.approx(ratio, abs=1)  # z of 1.96 there
    assert numbers.slope == pytest.approx(slope, rel=0.01)
    assert numbers.auroc == pytest.approx(auroc, abs=1)


def test_nothing_can_be_said_without_both_labels_or_of_equal_probabilities() -> None:
    sample = Sample.of(np.array([1, 1]), np.array([0.2, 0.4]), np.arange(2))
    assert set(vars(needed_for(sample, None)).values()) == {None}
    equal = needed_for(Sample.of(np.array([0, 1]), np.array([0.4, 0.4]), np.arange(2)), 0.5)
    assert equal.slope is None
    assert equal.auroc is not None
