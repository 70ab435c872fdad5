"""Fewer labels against more, at the institutions external to both."""

from collections.abc import Callable
from pathlib import Path

import pytest
from sklearn.metrics import roc_auc_score

from keras_ecg_mae.errors import RunError
from keras_ecg_mae.reports.comparison import Column, compare
from keras_ecg_mae.reports.fewer_labels import fewer_labels
from keras_ecg_mae.reports.finished_run import read_finished_run

MakeRun = Callable[..., Path]


def pair(made_run: MakeRun, edit: Callable[[str], str] = lambda text: text) -> tuple[Column, Column]:
    """A ViT of institution a, and a CNN of a and b on another dataset, whose predictions table `edit` changes."""
    few = made_run("few", "--title=MAE", gain=0.9, seed=1)
    many = made_run("many", "--architecture=cnn", "--title=CNN", dataset="dataset2", external=("c", "d"))
    table = many / "evaluation" / "predictions.csv"
    table.write_text(edit(table.read_text()))
    fewer, more = compare([read_finished_run(few), read_finished_run(many)])
    return fewer, more


def test_labels_areas_and_paired_differences(made_run: MakeRun) -> None:
    fewer, more = pair(made_run)
    part = fewer_labels(fewer, more)
    few, many = (100 + fewer.run.results.validation.ecgs, 200 + more.run.results.validation.ecgs)
    assert f"{few} ECGs with their labels, 100 to learn from" in part.remarks[0]
    assert f"{few / many:.0%}" in part.remarks[2]
    assert "higher at 2 of 2 institutions" in part.remarks[-1]
    (table,) = part.tables
    # b is external to the first run only.
    assert [row.head for row in table.rows] == ["c", "d"]
    count, first, second, difference = table.rows[0].cells
    assert (count.text, count.detail) == ("100", "of 100 and 100")
    areas = []
    for column, cell in ((fewer, first), (more, second)):
        rows = column.run.test[column.run.test["institution"] == "c"]
        areas.append(roc_auc_score(rows["label"], rows["probability"]))
        assert cell.text.startswith(f"{areas[-1]:.3f} (")
    assert difference.text.startswith(f"{areas[0] - areas[1]:+.3f} (+")
    assert difference.detail.startswith("p ")


def test_ecgs_that_one_run_lacks_are_left_out_of_both(made_run: MakeRun) -> None:
    def without(text: str) -> str:
        header, *lines = text.splitlines()
        return "\n".join([header, *(line for line in lines if ",c," not in line or not line.startswith("r4"))])

    fewer, more = pair(made_run, without)
    count, first, *_ = fewer_labels(fewer, more).tables[0].rows[0].cells
    left = len(more.run.test[more.run.test["institution"] == "c"])
    assert left < 100
    assert count.text == str(left)
    rows = fewer.run.test.merge(more.run.test[["record_id"]], on="record_id")
    rows = rows[rows["institution"] == "c"]
    assert first.text.startswith(f"{roc_auc_score(rows['label'], rows['probability']):.3f} (")


def test_an_institution_without_a_difference_does_not_count(made_run: MakeRun) -> None:
    def without(*institutions: str) -> Callable[[str], str]:
        return lambda text: "\n".join(
            line for line in text.splitlines() if not any(f",{name}," in line for name in institutions)
        )

    assert "higher at 1 of 1 institutions" in fewer_labels(*pair(made_run, without("c"))).remarks[-1]
    with pytest.raises(RunError, match=r"test ECGs in common\. Received none at c, d"):
        fewer_labels(*pair(made_run, without("c", "d")))


def test_a_record_with_another_label_is_named(made_run: MakeRun) -> None:
    def relabelled(text: str) -> str:
        (line,) = [line for line in text.splitlines() if line.startswith("r4,")]
        cells = line.split(",")
        cells[4] = str(1 - int(cells[4]))
        return text.replace(line, ",".join(cells))

    with pytest.raises(RunError, match=r"agree on every label\. .*'r4'"):
        fewer_labels(*pair(made_run, relabelled))


def test_the_run_with_more_labels_comes_second(made_run: MakeRun) -> None:
    fewer, more = pair(made_run)
    with pytest.raises(RunError, match="fewer labels in RUN_A"):
        fewer_labels(more, fewer)


def test_runs_without_a_common_external_institution_are_refused(made_run: MakeRun) -> None:
    runs = [made_run("few", external=("b",)), made_run("many", dataset="dataset2", external=())]
    fewer, more = compare([read_finished_run(run) for run in runs])
    with pytest.raises(RunError, match="external to both"):
        fewer_labels(fewer, more)
