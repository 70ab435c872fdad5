"""The paper's numbers beside ours: which run may stand beside which column."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from keras_ecg_mae.config import SPLITS, Training
from keras_ecg_mae.errors import RunError
from keras_ecg_mae.reports.comparison import Column, compare
from keras_ecg_mae.reports.finished_run import read_finished_run
from keras_ecg_mae.reports.paper import COLUMNS, expect_reproductions, read_paper
from keras_ecg_mae.reports.table_3 import INTERNAL, table_3

MakeRun = Callable[..., Path]
FOLDER = Path(__file__).parents[2] / "pipelines" / "paper"
INSTITUTIONS = tuple(f"institution_{number}" for number in (1, 2, 4, 5))


def column(run: Path) -> Column:
    return compare([read_finished_run(run)])[0]


def reproduction(made_run: MakeRun, *flags: str, **changes: object) -> Column:
    """A run of the column ds1_cnn, or of what `flags` say."""
    settings = {"institutions": INSTITUTIONS, "external": INSTITUTIONS[1:], **changes}
    return column(made_run("run", "--architecture=cnn", "--paper_column=ds1_cnn", *flags, **settings))


def test_every_column_of_the_table_is_known() -> None:
    assert list(read_paper(FOLDER).table_3.columns) == list(COLUMNS)
    assert read_paper(FOLDER).labels == (31_816, 107_571)
    Training(paper_column="ds2_mae_ds1")


def test_the_papers_auroc_and_the_difference_stand_below_ours(made_run: MakeRun) -> None:
    ours, paper = reproduction(made_run), read_paper(FOLDER)
    expect_reproductions([ours])
    table = table_3([ours], paper)
    cells = {row.head: row.cells[0] for row in table.rows}
    for head, key, printed in (
        ("Test of dataset1", INTERNAL, 0.95),
        ("institution_2", (False, "institution_2"), 0.88),
        ("institution_4", (False, "institution_4"), 0.87),
    ):
        value = ours.groups[key].auroc.value
        assert value is not None
        assert cells[head].text.startswith(f"{value:.3f} ")
        assert cells[head].detail == f"paper {printed:.2f} ({value - printed:+.3f})"
    labels = ours.run.labels
    assert any(f"dataset1 {labels:,} and 31,816" in note for note in table.notes)
    # An institution or pool the paper has no number of.
    assert paper.auroc(ours, (False, "institution_1")) is None
    assert paper.auroc(ours, (True, "all external")) is None


def test_without_a_paper_column_a_run_has_no_number_of_the_paper(made_run: MakeRun) -> None:
    ours = reproduction(made_run, "--paper_column=")
    expect_reproductions([ours])
    table = table_3([ours], read_paper(FOLDER))
    assert all(row.cells[0].detail == "" for row in table.rows)
    assert any("--paper_column" in note for note in table.notes)


@pytest.mark.parametrize(
    ("flags", "changes", "wrong"),
    [
        (["--paper_column=ds1"], {}, "model: cnn, not vit; pretrained on: nothing, not institution_1"),
        (
            ["--paper_column=ds2_cnn"],
            {},
            "fine-tuned on: institution_1, not institution_1, institution_2, institution_3",
        ),
        ([], {"label_name": "female"}, r"label: female, not lvsd \(ejection fraction under 40%\)"),
        (
            ["--architecture=vit", "--paper_column=ds2_imagenet", "--finetune_encoder=w.npz"],
            {},
            "pretrained on: w.npz, not images",
        ),
        (
            ["--architecture=vit", "--paper_column=ds1", "--finetune_encoder=pretrain"],
            {},
            "pretrained on the splits: train, not train, validation, test",
        ),
        (["--finetune_label_fraction=0.1"], {}, "differs: share of the labels: 0.1, not 1"),
        (["--finetune_recipe=mae"], {}, "differs: recipe: mae, not paper"),
        (["--finetune_trained=head"], {}, "differs: what learnt: head, not all"),
    ],
)
def test_a_run_that_is_not_its_column_is_refused(
    flags: list[str], changes: dict[str, str], wrong: str, made_run: MakeRun
) -> None:
    with pytest.raises(RunError, match=wrong):
        expect_reproductions([reproduction(made_run, *flags, **changes)])


def test_a_pretraining_that_began_with_weights_of_images_is_refused(made_run: MakeRun) -> None:
    ours = reproduction(made_run, "--architecture=vit", "--paper_column=ds1", "--finetune_encoder=pretrain")
    before = ours.run.trained.before
    assert before is not None
    begun = replace(before, recordings={"institution_1": dict.fromkeys(SPLITS, 9)}, initial_weights="image.npz")
    run = replace(ours.run, trained=replace(ours.run.trained, before=begun))
    with pytest.raises(RunError, match=r"differs: pretraining began with: image\.npz, not random"):
        expect_reproductions([replace(ours, run=run)])


def test_two_runs_of_a_training_set_have_label_counts_of_their_own(made_run: MakeRun) -> None:
    mine = reproduction(made_run)
    other = replace(mine, title="other", run=replace(mine.run, trained=replace(mine.run.trained, recordings={})))
    notes = "".join(table_3([mine, other], read_paper(FOLDER)).notes)
    assert f"{mine.name} {mine.run.labels:,} and 31,816; {other.name} 0 and 31,816" in notes


def test_a_folder_without_the_tables_is_named(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"table_1\.csv: Expected a table of the paper"):
        read_paper(tmp_path)
