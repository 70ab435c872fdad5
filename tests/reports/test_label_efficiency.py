"""Means, paired differences and their intervals over the seeds of a study."""

import numpy as np
import pytest
from scipy.stats import ttest_1samp

from keras_ecg_mae.reports.label_efficiency import Trial, interval_over_seeds, label_efficiency_report

ABOUT = {"run": "somewhere"}
GAPS = (0.05, 0.01, 0.03)


def trials(gaps: tuple[float, ...]) -> list[Trial]:
    """Two arms, a tenth and all of the labels; with all of them the arms are alike on average."""
    made = []
    for seed, gap in enumerate(gaps):
        for fraction, difference in ((0.1, gap), (1.0, gap - sum(gaps) / len(gaps))):
            made.append(
                Trial("pretrained", fraction, seed, int(100 * fraction), "all external", 0.8 + difference, ABOUT)
            )
            made.append(Trial("random", fraction, seed, int(100 * fraction), "all external", 0.8, ABOUT))
    return made


def test_the_interval_is_that_of_students_t() -> None:
    expected = ttest_1samp(GAPS, 0).confidence_interval(0.95)
    assert interval_over_seeds(np.array(GAPS)) == pytest.approx((expected.low, expected.high))
    assert interval_over_seeds(np.array([0.05])) is None


def test_differences_are_paired_by_seed() -> None:
    (part,) = label_efficiency_report(trials(GAPS)).parts
    means, differences = part.tables
    assert means.columns == ("10% of the patients", "100% of the patients")
    assert means.rows[0].texts == ("0.830 (0.810-0.850)", "0.800 (0.780-0.820)")
    assert means.subheads[0].texts == ("10", "100")
    low, high = interval_over_seeds(np.array(GAPS)) or (0, 0)
    assert differences.rows[0].texts[0] == f"+0.030 ({low:+.3f} to {high:+.3f}), 3 seeds"


def test_the_words_follow_the_interval() -> None:
    remarks = label_efficiency_report(trials((0.05, 0.04, 0.06))).parts[0].remarks
    assert "lies above 0" in remarks[0]
    assert "holds 0, so these seeds do not show which is better" in remarks[1]
    assert "lies below 0" in label_efficiency_report(trials((-0.05, -0.04, -0.06))).parts[0].remarks[0]


def test_a_seed_that_one_arm_has_not_finished_is_in_its_mean_and_in_no_difference() -> None:
    (part,) = label_efficiency_report(trials(GAPS)[:-1]).parts
    means, differences = part.tables
    assert means.rows[0].texts[1] == "0.800 (0.780-0.820)"
    assert differences.rows[0].texts[1].endswith(", 2 seeds")


def test_every_fine_tuning_is_a_line() -> None:
    (runs,) = label_efficiency_report(trials(GAPS)).attachments
    assert [row.head for row in runs.rows] == ["pretrained", "random"] * 6
    assert runs.rows[0].texts == ("0.1", "0", "10", "0.850000", "somewhere")
