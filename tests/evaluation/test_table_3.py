"""Table 3 as a reader sees it."""

from collections.abc import Callable
from pathlib import Path

import pytest

from keras_ecg_mae.evaluation.comparison import Column, compare
from keras_ecg_mae.evaluation.finished_run import read_finished_run
from keras_ecg_mae.evaluation.metrics import AurocDifference
from keras_ecg_mae.evaluation.table_3 import cells_table, counts_table, format_p_value, sources_table, table_3
from keras_ecg_mae.evaluation.tables import Table

MakeRun = Callable[..., Path]
CNN = "--architecture=cnn"


def compared(*folders: Path) -> tuple[Column, ...]:
    return compare([read_finished_run(folder) for folder in folders])


def texts(table: Table, head: str) -> list[tuple[str, str, bool]]:
    (row,) = [row for row in table.rows if row.head == head]
    return [(cell.text, cell.detail, cell.marked) for cell in row.cells]


def test_seven_runs_of_two_datasets(made_run: MakeRun) -> None:
    columns = compared(
        made_run("cnn1", CNN, "--title=CNN", "--finetune_encoder=random"),
        made_run("imagenet1", "--title=ViT of ImageNet", "--finetune_encoder=w.npz", gain=0.2, seed=1),
        made_run("mae1", "--title=MAE of dataset 1", gain=0.9, seed=2),
        made_run("mae12", "--title=MAE of dataset 2", "--finetune_encoder=x.keras", gain=0.9, seed=3),
        made_run("cnn2", CNN, "--title=CNN", dataset="dataset2", external=("c", "d"), seed=4),
        made_run("imagenet2", "--title=ViT of ImageNet", dataset="dataset2", external=("c", "d"), seed=5),
        made_run("mae2", "--title=MAE of dataset 2", dataset="dataset2", external=("c", "d"), gain=1.0, seed=6),
    )
    table = table_3(columns)
    assert table.groups == ("Trained on dataset1",) * 4 + ("Trained on dataset2",) * 3
    assert table.columns[:5] == ("CNN", "ViT of ImageNet", "MAE of dataset 1", "MAE of dataset 2", "CNN")
    assert [row.head for row in table.rows] == ["a", "b", "c", "d", "all internal", "all external"]
    # b is external to dataset 1 and internal to dataset 2.
    assert [marked for _, _, marked in texts(table, "b")] == [False] * 4 + [True] * 3
    assert [marked for _, _, marked in texts(table, "a")] == [True] * 7
    assert [bool(detail) for _, detail, _ in texts(table, "c")] == [False, True, True, True, False, True, True]
    (area, detail, _) = texts(table, "all external")[2]
    group, difference = columns[2].groups[True, "all external"], columns[2].differences[True, "all external"]
    assert area == f"{group.auroc.value:.3f} ({group.auroc.low:.3f}-{group.auroc.high:.3f})"
    assert detail == format_p_value(difference) == "p < 0.001"
    notes = "\n".join(table.notes)
    assert "Not adjusted for multiple comparisons" in notes
    assert "DeLong" in notes
    assert "Obuchowski" in notes
    elsewhere = "ViT of ImageNet, trained on dataset1; MAE of dataset 2, trained on dataset1"
    assert f"Pretrained elsewhere: {elsewhere}. " in notes
    assert "columns of different training sets pool different ECGs" in notes
    assert "No p-values" not in notes
    assert "lvsd" in table.caption


def test_without_a_cnn_there_is_no_p_value_and_a_line_says_so(made_run: MakeRun) -> None:
    columns = compared(made_run("one", CNN), made_run("two", dataset="dataset2"), made_run("three", dataset="dataset2"))
    table = table_3(columns)
    assert all(cell.detail == "" for row in table.rows for cell in row.cells)
    (line,) = [note for note in table.notes if note.startswith("No p-values")]
    assert line == "No p-values for models trained on dataset2: no run is its CNN (--architecture=cnn)."


def test_another_label_is_called_by_its_name(made_run: MakeRun) -> None:
    columns = compared(made_run("one", label_name="abnormal_rhythm"))
    tables = (table_3(columns), counts_table(columns), sources_table(columns))
    text = "".join(table.markdown() for table in tables)
    assert "abnormal_rhythm" in text
    assert "lvsd" not in text.lower()


def test_institutions_a_dataset_lacks_are_dashes(made_run: MakeRun) -> None:
    columns = compared(made_run("one", external=("b", "c", "d", "e")), made_run("two", dataset="dataset2"))
    assert texts(table_3(columns), "e") == [("-", "", False), ("-", "", False)]
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
    assert said["pretrained"] == "-"
    details = [cell.detail for cell in table.rows[0].cells]
    assert details[:3] == ["", *["revision 0123abc-dirty, version 0.1.0"] * 2]
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
    assert (float(said["difference"]), float(said["p"])) == (difference.difference, difference.p_value)
    assert (said["model"], said["role"], said["interval"]) == ("vit", "external", "logit")
    assert said["compared with"].endswith("cnn")
    assert len(table.rows) == 2 * 6


@pytest.mark.parametrize(
    ("p_value", "text"),
    [(0.0321, "p = 0.032"), (0.0005, "p = 0.001"), (0.00049, "p < 0.001"), (1.0, "p = 1.000"), (0.0, "p < 0.001")],
)
def test_p_values(p_value: float, text: str) -> None:
    assert format_p_value(AurocDifference(0.1, p_value=p_value)) == text


def test_a_missing_p_value_has_a_reason(made_run: MakeRun) -> None:
    columns = compared(made_run("vit"), made_run("cnn", CNN))
    assert texts(table_3(columns), "a")[0][1] == "p undefined: no variance between patients"
