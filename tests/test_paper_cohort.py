"""pipelines/paper_cohort.flags, typed as its head says: the paper's tables 1, 2 and 4, cell by cell."""

import csv
import re
import shutil
from collections import defaultdict
from pathlib import Path

import pytest

from keras_ecg_mae import prepare, report, simulate
from keras_ecg_mae.flags import config_from_arguments

PIPELINES = Path(__file__).resolve().parent.parent / "pipelines"
SPLITS = {"Train": "train", "Valid": "validation", "Test": "test"}


def read(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def number(cell: str) -> str:
    """`2,160 (8%)` without what the paper's numbers as data do not have."""
    return re.sub(r",| \(\d+%\)", "", cell)


def test_the_simulated_counts_are_the_papers() -> None:
    """Cases and controls are those of table 4, patients add up to those of tables 1 and 2."""
    counts = read(PIPELINES / "paper_cohort.csv")
    columns = ("institution", "split", "case", "control")
    assert [[row[name] for name in columns] for row in counts] == [
        [row[name] for name in columns] for row in read(PIPELINES / "paper" / "table_4.csv")
    ]
    for table, institutions in ((1, ("institution_1",)), (2, ("institution_1", "institution_2", "institution_3"))):
        patients: dict[str, int] = defaultdict(int)
        for row in counts:
            if row["institution"] in institutions:
                patients[row["split"]] += int(row["patients"])
        rows = read(PIPELINES / "paper" / f"table_{table}.csv")
        assert list(patients.values()) == [int(row["unique_patients"]) for row in rows[:-1]]


@pytest.mark.slow
def test_simulate_prepare_and_report_give_the_papers_tables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(PIPELINES, "pipelines")
    flags = "--flagfile=pipelines/paper_cohort.flags"
    datasets = ["runs/paper_cohort/dataset1", "runs/paper_cohort/dataset2"]
    assert simulate.main(config_from_arguments([flags]), []) == 0
    for place, output in enumerate(datasets, start=1):
        arguments = [f"--flagfile=pipelines/dataset{place}.flags", flags, "--table_only", f"--output={output}"]
        assert prepare.main(config_from_arguments(arguments), []) == 0
    assert report.main(config_from_arguments(["--report_output=report"]), datasets) == 0

    for place in (1, 2):
        ours = read(Path(f"report/table_{place}.csv"))
        paper = read(PIPELINES / "paper" / f"table_{place}.csv")
        assert list(ours[0]) == ["Split", "Case", "Control", "Unique patients", "Over all"]
        assert [row["Split"] for row in ours] == [
            *(f"Train{place}: train{place}", f"Train{place}: valid{place}", f"Test{place}", "Over all")
        ]
        for row, printed in zip(ours, paper, strict=True):
            assert list(map(number, list(row.values())[1:])) == list(printed.values())[1:]
    expected = {
        (row["institution"], row["split"], label): row[label.lower()]
        for row in read(PIPELINES / "paper" / "table_4.csv")
        for label in ("Case", "Control")
    }
    received = {
        (institution, SPLITS[row["Split"]], label): number(cell)
        for row in read(Path("report/table_4.csv"))
        for head, cell in row.items()
        if head != "Split" and cell != "-"
        for institution, label in [head.split(": ")]
    }
    assert received == expected
