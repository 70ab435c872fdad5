"""AUROC, its interval and the accuracy at a threshold, against hand counts, slow formulas and simulation."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm
from scipy.stats import t as student_t
from sklearn.metrics import roc_auc_score

from keras_ecg_mae.evaluation.metrics import (
    auprc,
    auroc,
    auroc_difference,
    brier_score,
    operating_point,
    proportion,
    youden_threshold,
)


def slow_clustered(labels: np.ndarray, scores: np.ndarray, patients: np.ndarray) -> tuple[float, float]:
    """Area and variance as Obuchowski (1997) writes them, pair by pair."""
    positives = [(s, p) for s, y, p in zip(scores, labels, patients, strict=True) if y == 1]
    negatives = [(s, p) for s, y, p in zip(scores, labels, patients, strict=True) if y == 0]
    count_positive, count_negative = len(positives), len(negatives)

    def order(x: float, y: float) -> float:
        return 1.0 if x > y else 0.5 if x == y else 0.0

    v10 = [sum(order(x, y) for y, _ in negatives) / count_negative for x, _ in positives]
    v01 = [sum(order(x, y) for x, _ in positives) / count_positive for y, _ in negatives]
    area = sum(v10) / count_positive
    with_positive, with_negative = {p for _, p in positives}, {p for _, p in negatives}
    everyone = with_positive | with_negative
    d10 = {q: sum(v - area for v, (_, p) in zip(v10, positives, strict=True) if p == q) for q in everyone}
    d01 = {q: sum(v - area for v, (_, p) in zip(v01, negatives, strict=True) if p == q) for q in everyone}
    i10, i01, i = len(with_positive), len(with_negative), len(everyone)
    s10 = i10 / ((i10 - 1) * count_positive) * sum(d10[q] ** 2 for q in with_positive)
    s01 = i01 / ((i01 - 1) * count_negative) * sum(d01[q] ** 2 for q in with_negative)
    s11 = i / (i - 1) * sum(d10[q] * d01[q] for q in everyone)
    return area, s10 / count_positive + s01 / count_negative + 2 * s11 / (count_positive * count_negative)


def simulate(
    generator: np.random.Generator, patients: int, ecgs: int, shared: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Binormal scores one deviation apart in their mean; `shared` of the variance is the patient's own."""
    sick = generator.random(patients) < 0.3
    own = np.sqrt(shared) * generator.normal(size=patients)
    keys = np.repeat(np.arange(patients), ecgs)
    noise = np.sqrt(1 - shared) * generator.normal(size=patients * ecgs)
    return sick[keys].astype(int), sick[keys] + own[keys] + noise, keys


def coverage(patients: int, ecgs: int, shared: float, *, by_patient: bool, replicates: int = 400) -> float:
    """Share of replicates whose 95% interval holds the true area, Phi(1 / sqrt(2))."""
    generator, truth, hits = np.random.default_rng(20240501), norm.cdf(1 / np.sqrt(2)), 0
    for _ in range(replicates):
        labels, scores, keys = simulate(generator, patients, ecgs, shared)
        result = auroc(labels, scores, keys if by_patient else np.arange(len(keys)))
        assert result.low is not None
        assert result.high is not None
        hits += result.low <= truth <= result.high
    return hits / replicates


def test_delong_by_hand() -> None:
    # Positives 3, 2, 5; negatives 1, 2, 4. Right pairs: 3 beats two, 2 beats one and ties one, 5 beats three.
    result = auroc(np.array([1, 1, 1, 0, 0, 0]), np.array([3, 2, 5, 1, 2, 4]), np.arange(6))
    # V10 = 2/3, 1/2, 1, mean 13/18; V01 = 1, 5/6, 1/3. Their sample variances are 7/108 and 13/108.
    assert result.value == pytest.approx(13 / 18)
    assert result.standard_error is not None
    assert result.standard_error == pytest.approx(np.sqrt(7 / 108 / 3 + 13 / 108 / 3))
    # Student's t for (7 + 13)**2 / (7**2 / 2 + 13**2 / 2) = 3.67 degrees of freedom.
    half = student_t.ppf(0.975, 400 / 109) * result.standard_error / (13 / 18 * 5 / 18)
    assert result.low == pytest.approx(1 / (1 + np.exp(half) / (13 / 5)), rel=1e-6)
    assert result.high == pytest.approx(1 / (1 + np.exp(-half) / (13 / 5)), rel=1e-6)
    assert result.method == "logit"


records = st.lists(
    st.tuples(st.integers(0, 1), st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.9, 1.0]), st.integers(0, 6)),
    min_size=4,
    max_size=30,
)


@given(records)
def test_equals_the_slow_clustered_formula_with_ties(rows: list[tuple[int, float, int]]) -> None:
    labels, scores, patients = (np.array(column) for column in zip(*rows, strict=True))
    result = auroc(labels, scores, patients)
    if len(set(labels.tolist())) < 2:
        assert result.value is None
        assert result.low is None
        assert result.undefined
        return
    assert result.value == pytest.approx(roc_auc_score(labels, scores), abs=1e-12)
    assert result.value is not None
    assert result.low is not None
    assert result.high is not None
    assert 0 <= result.low <= result.value <= result.high <= 1
    assert result.low < result.high
    if result.standard_error is not None:
        area, variance = slow_clustered(labels, scores, patients)
        assert result.value == pytest.approx(area, abs=1e-12)
        assert result.standard_error**2 == pytest.approx(variance, rel=1e-9, abs=1e-15)
    elif len(set(patients[labels == 1].tolist())) > 1 and len(set(patients[labels == 0].tolist())) > 1:
        assert result.value in (0.0, 1.0) or slow_clustered(labels, scores, patients)[1] < 1e-15


def test_one_ecg_a_patient_is_delong() -> None:
    generator = np.random.default_rng(3)
    labels, scores, _ = simulate(generator, 200, 1, 0.0)
    result = auroc(labels, scores, generator.permutation(200).astype(str))
    above = scores[labels == 1][:, None] > scores[labels == 0][None, :]
    by_positive, by_negative = above.mean(axis=1), above.mean(axis=0)
    delong = by_positive.var(ddof=1) / len(by_positive) + by_negative.var(ddof=1) / len(by_negative)
    assert result.standard_error is not None
    assert result.standard_error**2 == pytest.approx(delong, rel=1e-12)


def test_copies_of_an_ecg_add_no_certainty() -> None:
    labels, scores, patients = simulate(np.random.default_rng(5), 150, 1, 0.0)
    once = auroc(labels, scores, patients)
    thrice = auroc(np.repeat(labels, 3), np.repeat(scores, 3), np.repeat(patients, 3))
    assert thrice.value == pytest.approx(once.value)
    assert thrice.standard_error == pytest.approx(once.standard_error)
    naive = auroc(np.repeat(labels, 3), np.repeat(scores, 3), np.arange(450))
    assert naive.standard_error is not None
    assert once.standard_error is not None
    assert naive.standard_error < 0.65 * once.standard_error


def test_interval_covers_the_truth() -> None:
    assert 0.92 <= coverage(120, 1, 0.0, by_patient=True) <= 0.98


def test_interval_covers_the_truth_with_few_positive_patients() -> None:
    assert 0.92 <= coverage(30, 3, 0.7, by_patient=True) <= 0.98


def test_interval_covers_the_truth_with_several_ecgs_a_patient_where_the_naive_one_does_not() -> None:
    assert 0.92 <= coverage(80, 5, 0.7, by_patient=True) <= 0.98
    assert coverage(80, 5, 0.7, by_patient=False) < 0.85


@pytest.mark.parametrize("confidence", [0.9, 0.99])
def test_perfect_order_still_has_an_interval(confidence: float) -> None:
    labels = np.array([0] * 20 + [1] * 10)
    perfect = auroc(labels, np.arange(30), np.arange(30), confidence)
    reverse = auroc(labels, -np.arange(30), np.arange(30), confidence)
    assert (perfect.value, perfect.high, perfect.method) == (1.0, 1.0, "newcombe")
    assert (reverse.value, reverse.low) == (0.0, 0.0)
    assert perfect.low is not None
    assert reverse.high is not None
    assert 0.7 < perfect.low < 0.95
    assert reverse.high == pytest.approx(1 - perfect.low)
    # Newcombe's equation, put back: (1 - low)**2 = z**2 V(low), with n = (10 + 20) / 2 - 1 = 14.
    low = perfect.low
    variance = low * (1 - low) * (1 + 14 * ((1 - low) / (2 - low) + low / (1 + low))) / 200
    assert (1 - low) ** 2 == pytest.approx(norm.ppf(0.5 + confidence / 2) ** 2 * variance)


def test_one_positive_and_one_negative_patient_say_next_to_nothing() -> None:
    result = auroc(np.array([1, 1, 1, 0]), np.array([0.9, 0.8, 0.7, 0.1]), np.array(["a", "a", "a", "b"]))
    assert result.low == pytest.approx(1 / (1 + 1.959964**2), rel=1e-6)


def test_constant_probabilities_are_a_coin_with_an_interval() -> None:
    result = auroc(np.arange(40) % 2, np.full(40, 0.3), np.arange(40))
    assert result.value == 0.5
    assert result.low is not None
    assert result.high is not None
    assert result.low < 0.4
    assert result.high == pytest.approx(1 - result.low)


@pytest.mark.parametrize(
    ("labels", "reason"), [([1, 1], "no negative ECG"), ([0], "no positive ECG"), ([], "no positive or negative ECG")]
)
def test_one_class_is_undefined_and_says_why(labels: list[int], reason: str) -> None:
    result = auroc(np.array(labels), np.full(len(labels), 0.5), np.arange(len(labels)))
    assert (result.value, result.low, result.high, result.undefined) == (None, None, None, reason)


def test_a_hundred_thousand_predictions_need_no_table_of_pairs() -> None:
    generator = np.random.default_rng(0)
    labels, scores = generator.integers(0, 2, 100_000), generator.random(100_000)
    result = auroc(labels, scores, generator.integers(0, 50_000, 100_000))
    assert result.value == pytest.approx(roc_auc_score(labels, scores), abs=1e-12)


# DeLong et al. (1988), ovarian cancer: albumin, total protein, Krebs-Goplerud score and outcome of the 43 patients
# without a missing value, as SAS/STAT's documentation of PROC LOGISTIC reprints them.
OVARIAN = """
3.0 5.8 10 0  3.2 6.3 5 1  3.9 6.8 3 1  2.8 4.8 6 0  3.2 5.8 3 1  0.9 4.0 5 0  2.5 5.7 8 0  1.6 5.6 5 1  3.8 5.7 5 1
3.7 6.7 6 1   3.2 5.4 4 1  3.8 6.6 6 1  4.1 6.6 5 1  3.6 5.7 5 1  4.3 7.0 4 1  3.6 6.7 4 0  2.3 4.4 6 1  4.2 7.6 4 0
4.0 6.6 6 0   3.5 5.8 6 1  3.8 6.8 7 1  3.0 4.7 8 0  4.5 7.4 5 1  3.7 7.4 5 1  3.1 6.6 6 1  4.1 8.2 6 1  4.3 7.0 5 1
4.3 6.5 4 1   3.2 5.1 5 1  2.6 4.7 6 1  3.3 6.8 6 0  1.7 4.0 7 0  3.7 6.1 5 1  3.3 6.3 7 1  4.2 7.7 6 1  3.5 6.2 5 1
2.9 5.7 9 0   2.1 4.8 7 1  2.8 6.2 8 0  4.0 7.0 7 1  3.3 5.7 6 1  3.7 6.9 5 1  3.6 6.6 5 1
"""


@pytest.mark.parametrize(
    ("column", "difference", "error", "p_value"),
    # Computed with MLstatkit 0.1.91, which shares no code with this package.
    [(0, 0.0107527, 0.0953436, 0.9102063472), (1, -0.0779570, 0.1046096, 0.4561397075)],
)
def test_difference_is_delongs_on_delongs_data(column: int, difference: float, error: float, p_value: float) -> None:
    data = np.array(OVARIAN.split(), float).reshape(43, 4)
    result = auroc_difference(data[:, 3], data[:, column], -data[:, 2], np.arange(43))
    assert result.difference == pytest.approx(difference, abs=1e-7)
    # Its p-values are of the normal distribution, as pROC's are.
    assert result.z == pytest.approx(difference / error, abs=1e-5)
    assert result.normal_p_value == pytest.approx(p_value, abs=1e-9)
    freedom = slow_freedom(data[:, 3], data[:, column], -data[:, 2], np.arange(43))
    assert 10 < freedom < 42
    assert result.p_value == pytest.approx(2 * student_t.sf(abs(difference) / error, freedom), abs=1e-6)
    half_width = student_t.ppf(0.975, freedom) * error
    assert result.low == pytest.approx(difference - half_width, abs=1e-6)
    assert result.high == pytest.approx(difference + half_width, abs=1e-6)
    assert result.undefined == ""


def slow_difference(
    labels: np.ndarray, first: np.ndarray, second: np.ndarray, patients: np.ndarray
) -> tuple[float, float]:
    """Difference and variance from every pair of ECGs: each patient's share of the difference of the areas."""
    positives, negatives = np.flatnonzero(labels == 1), np.flatnonzero(labels == 0)

    def kernel(scores: np.ndarray, i: int, j: int) -> float:
        return float(np.heaviside(scores[i] - scores[j], 0.5))

    pairs = np.array([[kernel(first, i, j) - kernel(second, i, j) for j in negatives] for i in positives])
    difference = pairs.mean()
    by_positive = {q: (pairs[patients[positives] == q] - difference).mean(axis=1).sum() for q in set(patients)}
    by_negative = {q: (pairs[:, patients[negatives] == q] - difference).mean(axis=0).sum() for q in set(patients)}
    counts = (len(set(patients[positives])), len(set(patients[negatives])), len(set(patients)))
    terms = (
        sum(value**2 for value in by_positive.values()) / len(positives) ** 2,
        sum(value**2 for value in by_negative.values()) / len(negatives) ** 2,
        2 * sum(by_positive[q] * by_negative[q] for q in by_positive) / (len(positives) * len(negatives)),
    )
    return difference, sum(term * count / (count - 1) for term, count in zip(terms, counts, strict=True))


def slow_freedom(labels: np.ndarray, first: np.ndarray, second: np.ndarray, patients: np.ndarray) -> float:
    """Welch and Satterthwaite's degrees of freedom of the two classes' variances, from every pair of ECGs."""
    positives, negatives = np.flatnonzero(labels == 1), np.flatnonzero(labels == 0)

    def kernel(scores: np.ndarray) -> np.ndarray:
        return np.heaviside(scores[positives][:, None] - scores[negatives][None, :], 0.5)

    pairs = kernel(first) - kernel(second)
    terms, scale = [], 0.0
    for members, means in ((positives, pairs.mean(axis=1)), (negatives, pairs.mean(axis=0))):
        sums = [(means[patients[members] == q] - pairs.mean()).sum() for q in set(patients[members].tolist())]
        terms.append(len(sums) / (len(sums) - 1) * sum(value**2 for value in sums) / len(members) ** 2)
        scale += terms[-1] ** 2 / (len(sums) - 1)
    return float(sum(terms) ** 2 / scale)


paired_records = st.lists(
    st.tuples(st.integers(0, 1), st.integers(0, 4), st.integers(0, 4), st.integers(0, 6)), min_size=5, max_size=25
)


@given(paired_records)
def test_difference_equals_the_slow_formula_with_ties_and_patients(rows: list[tuple[int, int, int, int]]) -> None:
    labels, first, second, patients = (np.array(column) for column in zip(*rows, strict=True))
    result = auroc_difference(labels, first, second, patients)
    if len(set(labels.tolist())) < 2:
        assert (result.difference, result.p_value) == (None, None)
        assert result.undefined.startswith("no ")
        return
    assert result.difference == pytest.approx(roc_auc_score(labels, first) - roc_auc_score(labels, second), abs=1e-12)
    if min(len(set(patients[labels == label].tolist())) for label in (0, 1)) == 1:
        assert result.undefined in ("a single positive patient", "a single negative patient")
        return
    difference, variance = slow_difference(labels, first, second, patients)
    if result.p_value is None:
        assert variance < 1e-15
        assert result.undefined == "no variance between patients"
        return
    assert result.z is not None
    assert result.z**2 * variance == pytest.approx(difference**2, rel=1e-9, abs=1e-15)
    freedom = slow_freedom(labels, first, second, patients)
    assert result.p_value == pytest.approx(2 * student_t.sf(abs(difference) / np.sqrt(variance), freedom))
    assert result.low is not None
    assert result.high is not None
    assert -1 <= result.low <= difference + 1e-12
    assert difference - 1e-12 <= result.high <= 1
    reverse = auroc_difference(labels, second, first, patients)
    assert reverse.p_value == pytest.approx(result.p_value)
    assert reverse.difference == pytest.approx(-difference, abs=1e-12)


@given(rows=paired_records, confidence=st.sampled_from([0.5, 0.8, 0.9, 0.95, 0.99]))
def test_a_difference_is_significant_exactly_where_its_interval_leaves_0_out(
    rows: list[tuple[int, int, int, int]], confidence: float
) -> None:
    labels, first, second, patients = (np.array(column) for column in zip(*rows, strict=True))
    result = auroc_difference(labels, first, second, patients, confidence)
    assert (result.p_value is None) == (result.low is None) == (result.high is None)
    if result.p_value is None:
        return
    assert result.low is not None
    assert result.high is not None
    assert (result.p_value < 1 - confidence) == (result.low > 0 or result.high < 0)


def two_models(
    generator: np.random.Generator, patients: int, ecgs: int, gain: float = 0.0
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Labels, two correlated scores of which the first separates better by `gain`, and patients."""
    sick = generator.random(patients) < 0.4
    keys = np.repeat(np.arange(patients), ecgs)
    labels = sick[keys].astype(int)
    common = generator.normal(size=patients)[keys]
    own = generator.normal(size=(2, patients))[:, keys] + 0.3 * generator.normal(size=(2, len(keys)))
    return labels, (1 + gain) * labels + common + own[0], labels + common + own[1], keys


@pytest.mark.parametrize("gain", [0.0, 0.9])
def test_difference_agrees_with_a_permutation_and_a_bootstrap_over_patients(gain: float) -> None:
    generator = np.random.default_rng(11)
    labels, first, second, keys = two_models(generator, 60, 2, gain)
    result = auroc_difference(labels, first, second, keys)
    assert result.difference is not None
    assert result.p_value is not None
    assert result.z is not None
    # The permutation test of paired curves swaps the two models' ranks, here patient by patient.
    ranks = np.stack([first.argsort().argsort(), second.argsort().argsort()])
    permuted, resampled = [], []
    for _ in range(500):
        swap = generator.integers(0, 2, 60)[keys].astype(bool)
        swapped = np.where(swap, ranks[::-1], ranks)
        permuted.append(auroc_difference(labels, swapped[0], swapped[1], keys).difference)
        rows = (2 * generator.integers(0, 60, 60)[:, None] + np.arange(2)).ravel()
        resampled.append(auroc_difference(labels[rows], first[rows], second[rows], keys).difference)
    assert np.mean(np.abs(np.array(permuted, float)) >= abs(result.difference) - 1e-12) == pytest.approx(
        result.p_value, abs=0.04
    )
    assert np.std(np.array(resampled, float)) == pytest.approx(result.difference / result.z, rel=0.12)
    assert (result.p_value < 0.05) == (gain > 0)


def test_p_values_of_equal_models_are_uniform_by_patient_and_not_by_ecg() -> None:
    generator = np.random.default_rng(2)
    by_patient, by_ecg = [], []
    for _ in range(400):
        labels, first, second, keys = two_models(generator, 60, 4)
        by_patient.append(auroc_difference(labels, first, second, keys).p_value)
        by_ecg.append(auroc_difference(labels, first, second, np.arange(len(keys))).p_value)
    for level in (0.05, 0.5):
        assert np.mean(np.array(by_patient, float) < level) == pytest.approx(level, abs=0.075 if level > 0.1 else 0.025)
    assert np.mean(np.array(by_ecg, float) < 0.05) > 0.2


def test_equal_predictions_have_no_difference_and_no_p_value() -> None:
    labels, scores, _ = simulate(np.random.default_rng(4), 50, 1, 0.0)
    # The same order is the same AUROC, whatever the numbers.
    result = auroc_difference(labels, scores, np.exp(scores), np.arange(50))
    assert (result.difference, result.p_value, result.low) == (0.0, None, None)
    assert result.undefined == "no variance between patients"


def test_two_opposite_perfect_orders_have_a_difference_and_no_p_value() -> None:
    result = auroc_difference(np.array([0, 0, 1, 1]), np.arange(4), -np.arange(4), np.arange(4))
    assert (result.difference, result.p_value, result.undefined) == (1.0, None, "no variance between patients")


def test_wilson_by_hand_and_at_the_ends() -> None:
    # Newcombe, Statistics in Medicine 17 (1998), table I: 81 of 263 and 15 of 148, 0 of 20, by method 3.
    for count, total, low, high in ((81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611)):
        share = proportion(np.arange(total) < count, np.arange(total))
        assert (share.count, share.total) == (count, total)
        assert share.low == pytest.approx(low, abs=5e-5)
        assert share.high == pytest.approx(high, abs=5e-5)
    assert proportion(np.ones(7, bool), np.arange(7)).high == 1.0


def test_wilson_counts_patients_where_their_ecgs_agree() -> None:
    hits = np.arange(20) < 8
    patients = proportion(hits, np.arange(20))
    copies = proportion(np.repeat(hits, 4), np.repeat(np.arange(20), 4))
    assert copies.low == pytest.approx(patients.low, abs=0.02)
    assert copies.high == pytest.approx(patients.high, abs=0.02)
    certain = proportion(np.ones(80, bool), np.repeat(np.arange(20), 4))
    assert certain.low == pytest.approx(proportion(np.ones(20, bool), np.arange(20)).low)


def test_operating_point_by_hand() -> None:
    labels, scores = np.array([1, 1, 1, 0, 0, 0, 0]), np.array([0.9, 0.5, 0.2, 0.6, 0.5, 0.1, 0.0])
    point = operating_point(labels, scores, np.arange(7), 0.5)
    assert (point.sensitivity.count, point.sensitivity.total) == (2, 3)
    assert (point.specificity.count, point.specificity.total) == (2, 4)
    assert (point.positive_predictive_value.count, point.positive_predictive_value.total) == (2, 4)
    assert (point.negative_predictive_value.count, point.negative_predictive_value.total) == (2, 3)
    nobody = operating_point(labels, scores, np.arange(7), 0.95).positive_predictive_value
    assert (nobody.total, nobody.value, nobody.low) == (0, None, None)


def test_threshold_lies_midway_and_prefers_sensitivity() -> None:
    assert youden_threshold(np.array([0, 0, 1, 1]), np.array([0.1, 0.2, 0.6, 0.9])) == pytest.approx(0.4)
    # Over 0.2 and over 0.6 both give sensitivity + specificity - 1 = 1/2.
    assert youden_threshold(np.array([0, 1, 0, 1]), np.array([0.1, 0.3, 0.5, 0.7])) == pytest.approx(0.2)
    assert youden_threshold(np.array([1, 0]), np.array([0.5, 0.5])) == 0.5
    assert youden_threshold(np.array([1, 1]), np.array([0.5, 0.6])) is None


@given(records)
def test_no_threshold_beats_the_chosen_one(rows: list[tuple[int, float, int]]) -> None:
    labels, scores, _ = (np.array(column) for column in zip(*rows, strict=True))
    if len(set(labels.tolist())) < 2:
        return
    chosen = youden_threshold(labels, scores)
    assert chosen is not None

    def youden(threshold: float) -> float:
        called = scores >= threshold
        return float(called[labels == 1].mean() - called[labels == 0].mean())

    assert youden(chosen) == pytest.approx(max(youden(value) for value in np.append(scores, 2.0)))


def test_auprc_and_brier_by_hand() -> None:
    labels, scores = np.array([1, 0, 1, 0]), np.array([0.9, 0.8, 0.7, 0.1])
    assert auprc(labels, scores) == pytest.approx(0.5 * 1 + 0.5 * 2 / 3)
    assert brier_score(labels, scores) == pytest.approx((0.01 + 0.64 + 0.09 + 0.01) / 4)
    assert auprc(np.zeros(3), np.zeros(3)) is None
    assert brier_score(np.zeros(0), np.zeros(0)) is None
