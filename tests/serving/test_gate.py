"""Which classifiers are refused, and what the refusal says."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from keras_ecg_mae.config import Export, Quality
from keras_ecg_mae.errors import RunError
from keras_ecg_mae.runs.training_data import describe_label
from keras_ecg_mae.serving.gate import expect_same_model, gate_refusals
from keras_ecg_mae.serving.model_json import Description

Make = Callable[..., Any]


def groups(group: Make, *, a: Any = (0.9, 0.8, 0.95), b: Any = (0.7, 0.4, 0.9), pool: Any = (0.85, 0.75, 0.9)) -> Any:
    return [
        group("a", "internal", *a),
        group("b", "internal", *b),
        group("all internal", "internal", *pool, pooled=True),
    ]


def test_a_classifier_no_better_than_chance_is_refused(group: Make) -> None:
    assert gate_refusals(groups(group), Export()) == []
    assert gate_refusals(groups(group, pool=(0.6, 0.5, 0.7)), Export()) == []
    assert gate_refusals(groups(group, pool=(0.6, 0.49, 0.7)), Export()) == [
        "Expected the AUROC's interval of all internal to begin at 0.5 or above, by --export_minimum_auroc. "
        "Received 0.490."
    ]
    (refusal,) = gate_refusals(groups(group, pool=(None, None, None)), Export())
    assert refusal.endswith("Received none (no positive ECG).")
    assert gate_refusals(groups(group, pool=(0.6, 0.49, 0.7)), Export(export_minimum_auroc=0)) == []


def test_institutions_are_asked_for_theirs(group: Make) -> None:
    assert gate_refusals(groups(group), Export(export_minimum_institution_auroc=0.4)) == []
    (refusal,) = gate_refusals(groups(group), Export(export_minimum_institution_auroc=0.6))
    assert "interval of b to begin at 0.6 or above, by --export_minimum_institution_auroc. Received 0.400" in refusal
    unknown = groups(group, b=(None, None, None))
    assert gate_refusals(unknown, Export()) == []
    assert len(gate_refusals(unknown, Export(export_minimum_institution_auroc=0.1))) == 1


@pytest.mark.parametrize(
    ("name", "now", "refused"),
    [
        ("pool", (0.85, 0.75, 0.9), False),
        ("pool", (0.841, 0.75, 0.9), False),
        ("pool", (0.839, 0.75, 0.9), True),
        ("pool", (0.99, 0.98, 1.0), False),
        ("a", (0.7, 0.6, 0.9), False),
        ("a", (0.7, 0.6, 0.88), True),
        ("a", (None, None, None), True),
    ],
)
def test_no_worse_than_the_version_before(group: Make, name: str, now: Any, refused: bool) -> None:
    refusals = gate_refusals(groups(group, **{name: now}), Export(), groups(group))
    assert len(refusals) == refused
    if refused:
        assert "where the version before is, by --export_auroc_tolerance. Received" in refusals[0]


def test_what_the_version_before_does_not_know_is_not_compared(group: Make) -> None:
    before = [group("c", "external", 0.99, 0.98, 1.0), group("a", "internal", None, None, None)]
    assert gate_refusals(groups(group), Export(), before) == []
    # An institution that happens to be called so is not the pool.
    assert gate_refusals(groups(group), Export(), [group("all internal", "internal", 0.99, 0.98, 1.0)]) == []


def test_a_tolerance_may_be_given(group: Make) -> None:
    worse = groups(group, pool=(0.8, 0.7, 0.85))
    assert len(gate_refusals(worse, Export(), groups(group))) == 1
    assert gate_refusals(worse, Export(export_auroc_tolerance=0.05), groups(group)) == []
    assert (
        len(gate_refusals(groups(group, pool=(0.8499, 0.7, 0.9)), Export(export_auroc_tolerance=0), groups(group))) == 1
    )


def test_a_version_of_another_model_is_not_followed(decision: Make) -> None:
    def described(model: Any, label: str | None) -> Description:
        made = None if label is None else decision(label)
        return Description(model, "5d41", {}, 0, "first", Quality(), made, "")

    version = Path("saved_models/lvsd/3")
    under_40 = Description("classifier", "5d41", {}, 0, "first", Quality(), decision("lvsd", lvef_threshold=40.0), "")
    with pytest.raises(RunError, match=r"a lvsd \(.* 50%\) classifier. Received a lvsd \(.* 40%\) classifier"):
        expect_same_model(version, under_40, "classifier", describe_label("lvsd", 50.0))
    expect_same_model(version, described("classifier", "lvsd"), "classifier", "lvsd")
    expect_same_model(version, described("autoencoder", None), "autoencoder", "lvsd")
    for before, model, label, message in (
        (described("classifier", "lvsd"), "classifier", "lvh", "a lvh classifier. Received a lvsd classifier"),
        (described("classifier", "lvsd"), "autoencoder", "lvsd", "an autoencoder. Received a lvsd classifier"),
        (described("autoencoder", None), "classifier", "lvsd", "a lvsd classifier. Received an autoencoder"),
    ):
        with pytest.raises(RunError, match=rf"lvsd/3: Expected a version of the same model, {message}: give another"):
            expect_same_model(version, before, model, label)
