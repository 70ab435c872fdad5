"""Measures with intervals by patient: against R, against slow formulas, against bootstrap, and on hard inputs."""

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import statsmodels.api
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import expit, logit
from sklearn.metrics import average_precision_score

from keras_ecg_mae.errors import DatasetError
from keras_ecg_mae.evaluation.calibration import calibration, calibration_curve, expected_calibration_error
from keras_ecg_mae.evaluation.clustered import Estimate, Sample
from keras_ecg_mae.evaluation.decision import decision_curve, net_benefit
from keras_ecg_mae.evaluation.metrics import auroc, auroc_difference
from keras_ecg_mae.evaluation.overall import average_precision, brier, scaled_brier
from keras_ecg_mae.evaluation.thresholds import likelihood_ratios

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "evaluation.json").read_text())["cases"]


def simulate(seed: int, patients: int, prevalence: float = 0.3) -> Sample:
    """Three ECGs a patient; the logits are right but for a shift of 0.3 and a slope of 0.8."""
    generator = np.random.default_rng(seed)
    sick = generator.random(patients) < prevalence
    score = np.repeat(2 * sick + np.sqrt(0.6) * generator.normal(size=patients), 3)
    score += np.sqrt(0.4) * generator.normal(size=3 * patients)
    logits = 0.3 + (logit(prevalence) + 2 * score - 2) / 0.8
    return Sample.of(np.repeat(sick, 3), expit(logits), np.repeat(np.arange(patients), 3))


@pytest.mark.parametrize("name", GOLDEN)
def test_r_has_the_same_values(name: str) -> None:
    golden: dict[str, Any] = GOLDEN[name]
    labels, first, second = (np.array(golden[key]) for key in ("labels", "first", "second"))
    patients = np.arange(len(labels))
    area, test = auroc(labels, first, patients), auroc_difference(labels, first, second, patients)
    sample = Sample.of(labels, first, patients)
    measured = calibration(sample)
    assert area.standard_error is not None
    ours = {
        "auroc": area.value,
        "variance": area.standard_error**2,
        "z": test.z,
        "p": test.normal_p_value,
        "intercept": measured.intercept.value,
        "slope": measured.slope.value,
        "in_the_large": measured.in_the_large.value,
    }
    for key, value in ours.items():
        assert value == pytest.approx(golden[key], abs=1e-8), key
    # rms stops its iterations earlier.
    assert measured.slope.value == pytest.approx(golden["val_prob_slope"], abs=1e-6)
    assert measured.intercept.value == pytest.approx(golden["val_prob_intercept"], abs=1e-6)
    for threshold, value in zip(golden["thresholds"], golden["net_benefit"], strict=True):
        assert net_benefit(sample, threshold).model.value == pytest.approx(value, abs=1e-8)


def test_clustered_errors_of_slope_and_intercept_are_those_of_statsmodels() -> None:
    sample = simulate(1, 300)
    design = statsmodels.api.add_constant(logit(sample.probabilities))
    model = statsmodels.api.Logit(sample.positive.astype(float), design)
    options = {"groups": sample.patients, "use_correction": False}
    result = model.fit(disp=False, cov_type="cluster", cov_kwds=options)
    measured = calibration(sample)
    errors = np.array([measured.intercept.standard_error, measured.slope.standard_error], dtype=float)
    assert errors == pytest.approx(result.bse * np.sqrt(300 / 299), rel=1e-6)


@pytest.mark.parametrize("measure", ["auprc", "brier", "scaled", "net benefit", "observed", "likelihood"])
def test_the_derivatives_are_those_of_the_measure(measure: str) -> None:
    # The bootstrap of 2,000 draws of whole patients knows nothing of derivatives.
    def estimated(sample: Sample) -> Estimate:
        match measure:
            case "auprc":
                return average_precision(sample)
            case "brier":
                return brier(sample)
            case "scaled":
                return scaled_brier(sample)
            case "net benefit":
                return net_benefit(sample, 0.2).gain
            case "observed":
                return calibration(sample).observed_to_expected
        return likelihood_ratios(sample, 0.3).positive

    sample, generator = simulate(2, 300), np.random.default_rng(1)
    draws = []
    for _ in range(300):
        rows = (3 * generator.integers(0, 300, 300)[:, None] + np.arange(3)).reshape(-1)
        drawn = Sample(sample.positive[rows], sample.probabilities[rows], np.repeat(np.arange(300), 3))
        draws.append(estimated(drawn).value)
    error = estimated(sample).standard_error
    assert error == pytest.approx(np.std(np.array(draws, dtype=float)), rel=0.15)


@given(st.lists(st.tuples(st.booleans(), st.sampled_from([0.0, 0.1, 0.5, 0.9, 1.0])), min_size=1, max_size=30))
def test_ties_one_class_and_certain_probabilities_give_values_or_reasons(rows: list[tuple[bool, float]]) -> None:
    labels, probabilities = (np.array(column) for column in zip(*rows, strict=True))
    sample = Sample.of(labels, probabilities, np.arange(len(rows)) // 2)
    measured = calibration(sample)
    estimates = [average_precision(sample), brier(sample), scaled_brier(sample), *vars(measured).values()]
    estimates += [net_benefit(sample, 0.1).model, *vars(likelihood_ratios(sample, 0.5)).values()]
    for each in estimates:
        assert (each.low is None) == (each.undefined != "")
        if each.value is None:
            assert each.undefined
        elif each.low is not None and each.high is not None:
            assert each.low <= each.value <= each.high
            assert np.isfinite([each.low, each.value, each.high]).all()
    if labels.any() and not labels.all():
        assert average_precision(sample).value == pytest.approx(average_precision_score(labels, probabilities))
    calibration_curve(sample)


def test_equal_scores_one_patient_and_separated_labels_say_why_there_is_no_slope() -> None:
    labels, patients = np.tile([0, 1], 50), np.arange(100)
    equal = calibration(Sample.of(labels, np.full(100, 0.4), patients))
    assert equal.observed_to_expected.value == pytest.approx(1.25)
    assert (equal.slope.value, equal.slope.undefined) == (None, "all probabilities are equal")
    parted = calibration(Sample.of(labels, 0.1 + 0.8 * labels, patients))
    assert parted.slope.undefined == "one probability parts positive from negative ECGs"
    alone = brier(Sample.of(labels, np.linspace(0.1, 0.9, 100), np.zeros(100)))
    assert (alone.low, alone.undefined) == (None, "no variance between patients")


def test_what_is_no_probability_or_no_label_is_refused() -> None:
    for wrong in (np.nan, -0.1, 1.5, np.inf):
        with pytest.raises(DatasetError, match="Expected probabilities from 0 to 1"):
            Sample.of(np.array([0, 1]), np.array([0.5, wrong]), np.arange(2))
    with pytest.raises(DatasetError, match="Expected labels 0 or 1"):
        Sample.of(np.array([0, 2]), np.array([0.5, 0.5]), np.arange(2))


def test_the_smooth_curve_follows_a_known_miscalibration_within_its_band() -> None:
    curve = calibration_curve(simulate(3, 4_000))
    assert curve is not None
    truth = expit((logit(curve.predicted) - 0.3) * 0.8)
    assert np.abs(curve.observed - truth).max() < 0.05
    assert np.mean((curve.low <= truth) & (truth <= curve.high)) > 0.8
    assert calibration_curve(simulate(3, 40)) is None  # 10 positive patients


def test_net_benefit_at_the_ends() -> None:
    sample = simulate(4, 200)
    lowest, *_, highest = decision_curve(sample)
    assert lowest.refer_all == pytest.approx(sample.prevalence - (1 - sample.prevalence) / 99)
    assert lowest.model.value is not None
    assert lowest.model.value >= lowest.refer_all - 0.01
    assert highest.refer_all < 0
    assert highest.gain == highest.model


def test_expected_calibration_error_by_hand() -> None:
    labels, probabilities = np.array([0, 1, 1, 1]), np.array([0.11, 0.19, 0.8, 1.0])
    # Of the bin from 0.1, |1 - 0.30|; from 0.8, |1 - 0.8|; from 0.9, nothing.
    assert expected_calibration_error(Sample.of(labels, probabilities, np.arange(4))) == pytest.approx(0.9 / 4)


@pytest.mark.slow
def test_a_million_ecgs_take_under_twenty_seconds() -> None:
    sample = simulate(5, 333_334, prevalence=0.05)
    began = time.process_time()
    auroc(sample.positive, sample.probabilities, sample.patients)
    for measure in (average_precision, brier, scaled_brier, calibration, calibration_curve, decision_curve):
        assert measure(sample) is not None
    assert time.process_time() - began < 20
