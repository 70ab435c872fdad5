"""Random effects over institutions, by hand."""

import numpy as np
import pytest
from scipy.stats import t

from keras_ecg_mae.evaluation.across import across_institutions
from keras_ecg_mae.evaluation.clustered import Estimate


def test_equal_errors_by_hand() -> None:
    # With one standard error the mean is plain and tau squared is the variance between, less the error's square.
    values, error = np.array([0.8, 1.0, 1.3, 0.7]), 0.1
    summary = across_institutions([Estimate(value, 0, 2, error) for value in values], "identity")
    between = values.var(ddof=1)
    half = t.ppf(0.975, 3) * np.sqrt(between / 4)
    assert summary.institutions == 4
    assert summary.mean.value == pytest.approx(values.mean())
    assert summary.mean.low == pytest.approx(values.mean() - half, rel=1e-5)
    assert summary.tau == pytest.approx(np.sqrt(between - error**2), rel=1e-5)
    expected = values.mean() + t.ppf(0.975, 2) * np.sqrt(between - error**2 + between / 4)
    assert summary.prediction_high == pytest.approx(expected, rel=1e-5)


def test_institutions_that_agree_have_no_variance_between_and_keep_their_plain_interval() -> None:
    summary = across_institutions([Estimate(0.9, 0.88, 0.92, 0.01)] * 3, "logit")
    assert summary.tau == 0
    assert summary.mean.value == pytest.approx(0.9)
    assert summary.mean.low is not None
    assert summary.mean.high is not None
    assert 0.87 < summary.mean.low < 0.9 < summary.mean.high < 0.93
    assert summary.prediction_low is not None
    assert summary.prediction_low < summary.mean.low


def test_few_institutions() -> None:
    known = Estimate(0.9, 0.88, 0.92, 0.01)
    assert across_institutions([known, Estimate(None, undefined="x")], "logit").mean.undefined
    two = across_institutions([known, Estimate(0.8, 0.7, 0.9, 0.05)], "logit")
    assert two.prediction_low is None
    assert two.mean.value is not None
