"""Rules for the threshold, and what follows from sensitivity and specificity."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keras_ecg_mae.evaluation.clustered import Sample
from keras_ecg_mae.evaluation.thresholds import (
    choose_threshold,
    likelihood_ratios,
    negative_predictive_value,
    per_thousand,
    positive_predictive_value,
)

CASES = st.lists(st.tuples(st.booleans(), st.sampled_from([0.1, 0.2, 0.5, 0.9, 1.0])), min_size=2, max_size=40).filter(
    lambda rows: 0 < sum(label for label, _ in rows) < len(rows)
)


@given(CASES, st.sampled_from([0.5, 0.9, 1.0]))
def test_a_stated_sensitivity_or_specificity_is_reached_and_no_better_threshold_reaches_it(
    rows: list[tuple[bool, float]], wanted: float
) -> None:
    labels, probabilities = (np.array(column) for column in zip(*rows, strict=True))

    def reached(threshold: float) -> tuple[float, float]:
        called = probabilities >= threshold
        return called[labels].mean(), (~called[~labels]).mean()

    candidates = [*np.unique(probabilities), 1.1]
    for place, kind in enumerate(("sensitivity", "specificity")):
        threshold = choose_threshold(f"{kind}={wanted}", labels, probabilities)
        assert threshold is not None
        assert reached(threshold)[place] >= wanted
        best = max(reached(each)[1 - place] for each in candidates if reached(each)[place] >= wanted)
        assert reached(threshold)[1 - place] == best


def test_it_lies_midway_and_needs_both_labels() -> None:
    labels, probabilities = np.array([0, 0, 1, 1]), np.array([0.1, 0.2, 0.6, 0.9])
    assert choose_threshold("sensitivity=0.9", labels, probabilities) == pytest.approx(0.4)
    assert choose_threshold("specificity=0.9", labels, probabilities) == pytest.approx(0.4)
    assert choose_threshold("specificity=0.9", np.ones(4), probabilities) is None


def test_predictive_values_follow_from_likelihood_ratios_by_bayes() -> None:
    # Sensitivity 0.9, specificity 0.8, of 100 patients with either label.
    labels = np.repeat([1, 0], 100)
    probabilities = np.concatenate([np.repeat([0.9, 0.1], [90, 10]), np.repeat([0.9, 0.1], [20, 80])])
    ratios = likelihood_ratios(Sample.of(labels, probabilities, np.arange(200)), 0.5)
    assert ratios.positive.value == pytest.approx(4.5)
    assert ratios.negative.value == pytest.approx(0.125)
    # The delta method by hand: var(log LR+) = (1 - 0.9) / 90 + (1 - 0.2) / 20, but for 200 / 199.
    assert ratios.positive.standard_error == pytest.approx(4.5 * np.sqrt((0.1 / 90 + 0.8 / 20) * 200 / 199))
    ppv, npv = positive_predictive_value(ratios, 0.05), negative_predictive_value(ratios, 0.05)
    assert ppv.value == pytest.approx(0.045 / (0.045 + 0.19))
    assert npv.value == pytest.approx(0.76 / (0.76 + 0.005))
    for each in (ppv, npv):
        assert each.low is not None
        assert each.high is not None
        assert each.low < each.value < each.high  # type: ignore[operator]
    thousand = per_thousand(0.9, 0.8, 0.05)
    assert (thousand.flagged, thousand.found, thousand.missed) == pytest.approx((235, 45, 5))
    assert thousand.echocardiograms_per_case == pytest.approx(1 / ppv.value)  # type: ignore[operator]
    assert per_thousand(0.0, 1.0, 0.05).echocardiograms_per_case is None


def test_a_side_of_the_threshold_without_negative_ecgs_has_no_ratio() -> None:
    sample = Sample.of(np.array([1, 1, 0, 0]), np.array([0.9, 0.2, 0.1, 0.3]), np.arange(4))
    assert likelihood_ratios(sample, 0.5).positive.undefined == "no negative ECG on this side of the threshold"
    assert likelihood_ratios(sample, 0.2).negative.value == 0
