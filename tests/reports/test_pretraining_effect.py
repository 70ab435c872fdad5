"""A run from a pretrained encoder beside its control from random weights."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from sklearn.metrics import roc_auc_score

from keras_ecg_mae.reports.comparison import compare
from keras_ecg_mae.reports.document import Part
from keras_ecg_mae.reports.finished_run import read_finished_run
from keras_ecg_mae.reports.pretraining_effect import pretraining_effects

MakeRun = Callable[..., Path]
RANDOM = "--finetune_encoder=random"


def effects(*folders: Path) -> Part | None:
    return pretraining_effects(compare([read_finished_run(folder) for folder in folders]))


def test_both_areas_and_their_paired_difference(made_run: MakeRun) -> None:
    folders = made_run("mae", "--title=MAE", gain=1.0, seed=1), made_run("control", "--title=Control", RANDOM)
    part = effects(*folders)
    assert part is not None
    (table,) = part.tables
    assert [row.head for row in table.rows] == [
        *(f"MAE, {name}" for name in ("a", "all internal", "b", "c", "d", "all external"))
    ]
    areas = []
    for folder in folders:
        rows = read_finished_run(folder).test.query("institution != 'a'")
        areas.append(roc_auc_score(rows["label"], rows["probability"]))
    cells = table.rows[-1].cells
    assert [cell.text[:5] for cell in cells[:2]] == [f"{area:.3f}" for area in areas]
    assert cells[2].text.startswith(f"{areas[0] - areas[1]:+.3f} (+")
    (sentence,) = part.remarks
    assert f"AUROC {cells[0].text} and {cells[1].text} at all external (300 ECGs of 150 patients)" in sentence
    assert "lies above 0" in sentence


@pytest.mark.parametrize(
    ("gain", "verdict"), [(0.0, "holds 0, so this does not show that either is better"), (-1.0, "lies below 0")]
)
def test_the_words_follow_the_interval(made_run: MakeRun, gain: float, verdict: str) -> None:
    part = effects(made_run("mae", gain=gain, seed=1), made_run("control", RANDOM))
    assert part is not None
    assert verdict in part.remarks[0]


@pytest.mark.parametrize(
    "other",
    [
        ("--finetune_encoder=random", "--finetune_label_fraction=0.1"),
        ("--finetune_encoder=random", "--finetune_trained=head"),
        ("--finetune_encoder=random", "--architecture=cnn"),
        (),
    ],
)
def test_a_run_that_differs_in_more_than_its_weights_is_no_control(made_run: MakeRun, other: tuple[str, ...]) -> None:
    assert effects(made_run("mae"), made_run("other", *other)) is None


def test_nor_is_one_that_tried_other_learning_rates(made_run: MakeRun) -> None:
    folders = made_run("mae"), made_run("control", RANDOM)
    assert effects(*folders) is not None
    rate = folders[1] / "finetune" / "0.001"
    rate.mkdir()
    (rate / "metrics.csv").write_text("epoch,loss,validation_loss\n0,0.7,0.7\n")
    assert effects(*folders) is None


def test_nor_is_one_of_another_seed(made_run: MakeRun) -> None:
    folders = made_run("mae"), made_run("control", RANDOM)
    settings = folders[1] / "finetune" / "settings.json"
    settings.write_text(json.dumps({**json.loads(settings.read_text()), "seed": 1}))
    assert effects(*folders) is None
