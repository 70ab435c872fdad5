"""Table 3 as a reader sees it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from keras_ecg_mae.evaluation.metrics import AurocDifference
from keras_ecg_mae.pages.tables import Table
from keras_ecg_mae.reports.comparison import Column, compare
from keras_ecg_mae.reports.finished_run import read_finished_run
from keras_ecg_mae.reports.table_3 import (
    cells_table,
    counts_table,
    format_p_values,
    institutions_table,
    sources_table,
    table_3,
)

MakeRun = Callable[..., Path]
CNN = "--architecture=cnn"


def compared(*folders: Path) -> tuple[Column, ...]:
    return compare([read_finished_run(folder) for folder in folders])


def texts(table: Table, head: str) -> list[tuple[str, str, bool]]:
    (row,) = [row for row in table.rows if row.head == head]
    return [(cell.text, cell.detail, cell.marked) for cell in row.cells]


def seven_runs(made_run: MakeRun) -> tuple[Column, ...]:
    """The paper's seven columns: institution a alone, and institutions a and b."""
    ds2: dict[str, Any] = {"dataset": "dataset2", "external": ("c", "d")}
    first = made_run("ds1", "--title=MAE of dataset 1", gain=0.9, seed=2)
    second = made_run("ds2", "--title=MAE of dataset 2", gain=1.0, seed=6, **ds2)
    before = {run: read_finished_run(run).trained.before for run in (first, second)}
    mae = "--finetune_encoder=x.keras"
    return compared(
        made_run("ds1_cnn", CNN, "--title=CNN"),
        first,
        made_run("ds1_mae_ds2", mae, "--title=MAE of dataset 2", gain=0.9, seed=3, before=before[second]),
        made_run("ds2_cnn", CNN, "--title=CNN", seed=4, **ds2),
        made_run("ds2_imagenet", "--finetune_encoder=weights/w.npz", "--finetune_transfer=blocks", seed=5, **ds2),
        made_run("ds2_mae_ds1", mae, "--title=MAE of dataset 1", gain=0.9, seed=7, before=before[first], **ds2),
        second,
    )


def test_the_papers_seven_columns_and_its_rows(made_run: MakeRun) -> None:
    columns = seven_runs(made_run)
    table = table_3(columns)
    assert (table.head, table.columns) == ("Model", ("CNN", *["ViT-Large"] * 2, "CNN", *["ViT-Large"] * 3))
    assert [(row.head, row.texts) for row in table.subheads] == [
        ("Pre-training", ("-", "dataset1", "dataset2", "-", "images: w.npz", "dataset1", "dataset2")),
        ("Fine-tuning", ("dataset1",) * 3 + ("dataset2",) * 4),
    ]
    # As in the paper's table: a cell only where the row is external to the column, or its own test ECGs.
    filled = {row.head: "".join("-" if text == "-" else "x" for text in row.texts) for row in table.rows}
    assert filled == {
        "Test of dataset1": "xxx----",
        "Test of dataset2": "---xxxx",
        "b": "xxx----",
        "c": "xxxxxxx",
        "d": "xxxxxxx",
    }
    group = columns[2].groups[False, "c"]
    assert texts(table, "c")[2][0] == f"{group.auroc.value:.3f} ({group.auroc.low:.3f}-{group.auroc.high:.3f})"
    assert texts(table, "Test of dataset2")[6][0].startswith(
        f"{columns[6].groups[True, 'all internal'].auroc.value:.3f}"
    )
    assert all(detail == "" for row in table.rows for _, detail, _ in texts(table, row.head))
    assert "lvsd" in table.caption


def test_what_pretraining_saw_is_marked_and_said(made_run: MakeRun) -> None:
    table = table_3(seven_runs(made_run))
    marked = {row.head: [place for place, cell in enumerate(row.cells) if cell.marked] for row in table.rows}
    # The training ECGs of b are external tests of column 2. Column 5 was pretrained on another dataset's split of a.
    assert marked == {"Test of dataset1": [2], "Test of dataset2": [5], "b": [2], "c": [], "d": []}
    (note,) = [note for note in table.notes if "(dataset missing/dataset2" in note]
    assert note.startswith("MAE of dataset 2, trained on dataset1; MAE of dataset 2, trained on dataset2: ")
    assert "without labels, the train ECGs of a, b" in note
    assert any("w.npz" in note and "not known" in note for note in table.notes)


def test_runs_with_the_same_heads_are_told_apart_by_their_titles(made_run: MakeRun) -> None:
    table = table_3(compared(made_run("one", "--title=Seed 0"), made_run("two", "--title=Seed 1", seed=1)))
    assert (table.subheads[-1].head, table.subheads[-1].texts) == ("Run", ("Seed 0", "Seed 1"))


def test_the_supplement_has_every_institution_and_pool_with_p_values(made_run: MakeRun) -> None:
    columns = seven_runs(made_run)
    table = institutions_table(columns)
    assert table.groups == ("Trained on dataset1",) * 3 + ("Trained on dataset2",) * 4
    assert [row.head for row in table.rows] == ["a", "b", "c", "d", "all internal", "all external"]
    # b is external to dataset 1 and internal to dataset 2.
    assert [marked for _, _, marked in texts(table, "b")] == [False] * 3 + [True] * 4
    assert [bool(detail) for _, detail, _ in texts(table, "c")] == [False, True, True, False, True, True, True]
    detail, difference = texts(table, "all external")[2][1], columns[2].differences[True, "all external"]
    assert detail == format_p_values(difference) == f"p < 0.001 (t), z = {difference.z:.2f}, p < 0.001 (normal)"
    notes = "\n".join(table.notes)
    for words in ("Not adjusted for multiple comparisons", "DeLong", "Obuchowski", "pROC", "pool different ECGs"):
        assert words in notes
    assert "No p-values" not in notes


def test_without_a_cnn_there_is_no_p_value_and_a_line_says_so(made_run: MakeRun) -> None:
    columns = compared(made_run("one", CNN), made_run("two", dataset="dataset2"), made_run("three", dataset="dataset2"))
    table = institutions_table(columns)
    assert all(cell.detail == "" for row in table.rows for cell in row.cells)
    (line,) = [note for note in table.notes if note.startswith("No p-values")]
    assert line == "No p-values for models trained on dataset2: no run is its CNN (--architecture=cnn)."


def test_another_label_is_called_by_its_name(made_run: MakeRun) -> None:
    columns = compared(made_run("one", label_name="abnormal_rhythm"))
    tables = (table_3(columns), institutions_table(columns), counts_table(columns), sources_table(columns))
    text = "".join(table.markdown() for table in tables)
    assert "abnormal_rhythm" in text
    assert "lvsd" not in text.lower()


def test_institutions_a_dataset_lacks_are_dashes(made_run: MakeRun) -> None:
    columns = compared(made_run("one", external=("b", "c", "d", "e")), made_run("two", dataset="dataset2"))
    assert texts(institutions_table(columns), "e") == [("-", "", False), ("-", "", False)]
    assert texts(counts_table(columns), "e") == [("-", "", False), ("-", "", False)]


def test_counts_are_those_of_the_test_ecgs(made_run: MakeRun) -> None:
    columns = compared(made_run("cnn", CNN), made_run("vit"), made_run("two", dataset="dataset2"))
    table = counts_table(columns)
    assert table.columns == ("Trained on dataset1", "Trained on dataset2")
    rows = columns[0].run.test
    rows = rows[rows["institution"] == "a"]
    text, detail, marked = texts(table, "a")[0]
    assert text == f"{len(rows)} ({rows['label'].sum()})"
    assert detail.startswith(f"{rows['patient_key'].nunique()} patients (")
    assert marked


def test_every_column_can_be_traced(made_run: MakeRun) -> None:
    folder = made_run("vit", "--title=MAE")
    columns = compared(folder)
    table = sources_table(columns)
    said = dict(zip(table.columns, (cell.text for cell in table.rows[0].cells), strict=True))
    assert table.rows[0].head == "MAE, trained on dataset1"
    assert said["run folder"] == str(folder)
    assert said["fine-tuned"] == "2026-01-02T04:04:05+00:00"
    assert said["evaluated"] == "2026-01-02T05:04:05+00:00"
    assert said["pretrained"] == "2026-01-02T03:04:05+00:00"
    details = [cell.detail for cell in table.rows[0].cells]
    assert details[:3] == ["revision 0123abc-dirty, version 0.1.0"] * 3
    assert said["dataset"] == "missing/dataset1"
    assert said["dataset's checksum"] == columns[0].run.dataset.sha256
    assert said["SHA-256 of evaluation/predictions.csv"] == columns[0].run.predictions_sha256


def test_cells_have_every_digit(made_run: MakeRun) -> None:
    columns = compared(made_run("vit", gain=0.5, seed=1), made_run("cnn", CNN))
    table = cells_table(columns)
    row = next(row for row in table.rows if row.head == "all external")
    said = dict(zip(table.columns, (cell.text for cell in row.cells), strict=True))
    difference = columns[0].differences[True, "all external"]
    assert float(said["AUROC"]) == columns[0].groups[True, "all external"].auroc.value
    assert (float(said["difference"]), float(said["p (t)"])) == (difference.difference, difference.p_value)
    assert (float(said["z"]), float(said["p (normal)"])) == (difference.z, difference.normal_p_value)
    assert (said["model"], said["role"], said["interval"]) == ("vit", "external", "logit")
    assert said["compared with"].endswith("cnn")
    assert len(table.rows) == 2 * 6


def test_p_values() -> None:
    difference = AurocDifference(0.1, p_value=0.0321, z=2.236, normal_p_value=0.00049)
    assert format_p_values(difference) == "p = 0.032 (t), z = 2.24, p < 0.001 (normal)"


def test_a_missing_p_value_has_a_reason(made_run: MakeRun) -> None:
    columns = compared(made_run("vit"), made_run("cnn", CNN))
    assert texts(institutions_table(columns), "a")[0][1] == "p undefined: no variance between patients"
