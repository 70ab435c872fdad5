"""Runs beside one another: which are compared, on which ECGs, and what is refused."""

from collections.abc import Callable
from pathlib import Path

import pytest
from sklearn.metrics import roc_auc_score

from keras_ecg_mae.errors import RunError
from keras_ecg_mae.reports.comparison import Column, compare, distinct_names, group_keys
from keras_ecg_mae.reports.finished_run import read_finished_run

MakeRun = Callable[..., Path]
CNN = "--architecture=cnn"


def compared(*folders: Path) -> tuple[Column, ...]:
    return compare([read_finished_run(folder) for folder in folders])


def test_a_run_is_compared_with_the_cnn_of_its_own_dataset_on_each_groups_ecgs(made_run: MakeRun) -> None:
    vit, cnn, other = compared(
        made_run("vit", "--title=MAE", gain=1.0, seed=1),
        made_run("cnn", CNN, "--title=CNN"),
        made_run("other", CNN, dataset="dataset2", external=("c", "d")),
    )
    assert (vit.title, cnn.title, other.title) == ("MAE", "CNN", "other")
    assert (vit.training_set, cnn.training_set, other.training_set) == ("dataset1", "dataset1", "dataset2")
    assert vit.baseline is cnn.run
    assert (cnn.baseline, cnn.differences, other.baseline) == (None, {}, None)
    assert list(vit.differences) == list(vit.groups)
    for key, institutions in {
        (False, "a"): ["a"],
        (False, "c"): ["c"],
        (True, "all internal"): ["a"],
        (True, "all external"): ["b", "c", "d"],
    }.items():
        areas = []
        for run in (vit.run, cnn.run):
            rows = run.test[run.test["institution"].isin(institutions)]
            areas.append(roc_auc_score(rows["label"], rows["probability"]))
        assert vit.groups[key].auroc.value == pytest.approx(areas[0])
        assert vit.differences[key].difference == pytest.approx(areas[0] - areas[1])
    assert vit.differences[True, "all external"].p_value == pytest.approx(0, abs=1e-4)


def test_the_order_of_records_in_the_tables_does_not_matter(made_run: MakeRun) -> None:
    vit, cnn = made_run("vit", seed=1), made_run("cnn", CNN)
    before = compared(vit, cnn)[0].differences
    table = vit / "evaluation" / "predictions.csv"
    header, *rows = table.read_text().splitlines()
    table.write_text("\n".join([header, *reversed(rows)]) + "\n")
    assert compared(vit, cnn)[0].differences == before


def test_rows_are_internal_institutions_then_external_ones_then_pools(made_run: MakeRun) -> None:
    columns = compared(
        made_run("one", external=("a", "c", "d")),
        made_run("two", dataset="dataset2", external=("a", "c")),
    )
    names = [name for _, name in group_keys(columns)]
    assert names == ["b", "d", "a", "c", "all internal", "all external"]


def test_an_institution_called_like_a_pool_is_not_taken_for_it(made_run: MakeRun) -> None:
    run = made_run("run")
    path = run / "evaluation" / "results.json"
    path.write_text(path.read_text().replace('"name": "a"', '"name": "all external"'))
    (column,) = compared(run)
    assert column.groups[False, "all external"].role == "internal"
    assert column.groups[True, "all external"].role == "external"


def test_two_runs_of_one_title_are_told_apart(made_run: MakeRun) -> None:
    first, second = compared(made_run("one", "--title=MAE"), made_run("two", "--title=MAE", seed=1))
    assert first.title.startswith("MAE (")
    assert first.title.endswith("one)")
    assert second.title.endswith("two)")


def test_two_datasets_of_one_folder_are_told_apart(made_run: MakeRun) -> None:
    one, two = made_run("one"), made_run("two", dataset="dataset2")
    for path in (two / "finetune" / "done.json", two / "evaluation" / "settings.json"):
        path.write_text(path.read_text().replace("missing/dataset2", "missing/dataset1"))
    names = [column.training_set for column in compared(one, two)]
    assert names == [f"dataset1 ({column.run.dataset.sha256[:8]})" for column in compared(one, two)]
    assert len(set(names)) == 2


def test_several_cnns_of_one_dataset_are_named(made_run: MakeRun) -> None:
    with pytest.raises(RunError, match=r"one run with --architecture=cnn of .* dataset1.*Received 2: .*first, .*sec"):
        compared(made_run("first", CNN), made_run("second", CNN), made_run("vit"))
    assert len(compared(made_run("first", CNN), made_run("third", CNN, dataset="dataset2"))) == 2


def test_a_run_given_twice_is_refused(made_run: MakeRun) -> None:
    run = made_run("run")
    with pytest.raises(RunError, match="Expected every run once"):
        compared(run, run / ".." / "run")


def test_runs_of_different_labels_are_refused(made_run: MakeRun) -> None:
    with pytest.raises(RunError, match=r"the same label, 'lvsd \(.*' as in .*one\. Received 'af'"):
        compared(made_run("one"), made_run("two", label_name="af", dataset="dataset2"))
    with pytest.raises(RunError, match=r"under 40%\)' as in .*one\. Received 'lvsd \(ejection fraction under 50%\)'"):
        compared(made_run("one"), made_run("two", lvef_threshold=50.0, dataset="dataset2"))


def test_a_share_of_the_labels_is_a_training_set_of_its_own(made_run: MakeRun) -> None:
    few = "--finetune_label_fraction=0.1"
    vit, few_cnn, cnn = compared(made_run("vit", few), made_run("few", CNN, few), made_run("cnn", CNN))
    assert [column.training_set for column in (vit, few_cnn, cnn)] == ["dataset1 (10% of the labels)"] * 2 + [
        "dataset1"
    ]
    assert vit.baseline is few_cnn.run


def test_records_that_differ_are_named(made_run: MakeRun) -> None:
    vit, cnn = made_run("vit"), made_run("cnn", CNN)
    table = vit / "evaluation" / "predictions.csv"
    text = table.read_text()
    (line,) = [line for line in text.splitlines() if line.startswith("r390,")]
    table.write_text(text.replace(line + "\n", "").replace(line + "\r\n", ""))
    with pytest.raises(RunError, match=r"Received 1 that .*vit lacks, the first being 'r390' of .*cnn"):
        compared(vit, cnn)
    cells = line.split(",")
    cells[4] = str(1 - int(cells[4]))
    table.write_text(text.replace(line, ",".join(cells)))
    with pytest.raises(RunError, match=r"agree on every label. Received .* for 'r390'"):
        compared(vit, cnn)


@pytest.mark.parametrize(
    ("paths", "names"),
    [
        (["runs/dataset1", "runs/dataset2"], ["dataset1", "dataset2"]),
        (["runs/ds1/dataset", "runs/ds2/dataset/", "other"], ["ds1/dataset", "ds2/dataset", "other"]),
        (["dataset", "a/dataset"], ["dataset", "a/dataset"]),
        (["s3://bucket/d", "s3://bucket/d"], ["d", "d"]),
        ([], []),
    ],
)
def test_names_of_folders(paths: list[str], names: list[str]) -> None:
    assert distinct_names(paths) == names
