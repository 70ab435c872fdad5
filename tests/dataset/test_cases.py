"""Tables that people had trouble with (../shared/cases): the right answer, counted independently, of each."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from keras_ecg_mae.cohort.description import CohortDescription
from keras_ecg_mae.config import Cohort, Config
from keras_ecg_mae.dataset import Manifest, prepare, split_table
from keras_ecg_mae.prepare import main


def truth(shared: Path, case: str) -> Any:
    return json.loads((shared / "cases" / case / "expected.json").read_text())


def split(tmp_path: Path, labels: Path, **settings: Any) -> CohortDescription:
    return split_table(Cohort(labels=str(labels), output=str(tmp_path / "dataset"), table_only=True, **settings))


@pytest.mark.parametrize("file", ["all_percent.xlsx", "some_percent.xlsx"])
def test_w01_excel_cells_that_show_a_percentage(shared: Path, tmp_path: Path, file: str) -> None:
    described, expected = split(tmp_path, shared / "cases/W01" / file), truth(shared, "W01")["truth"]
    assert described.count(labelled=True) == expected["labelled"]
    assert described.positives() == expected["positive"]


@pytest.mark.parametrize("prefix", ["", "fewer_"])
def test_w03_dates_that_are_shifted_into_the_future(shared: Path, tmp_path: Path, prefix: str) -> None:
    folder = shared / "cases/W03"
    described = split(
        tmp_path,
        folder / f"{prefix}ecg.csv",
        echoes=str(folder / f"{prefix}echo.csv"),
        ecg_date_column="ecg_time",
        echo_date_column="measurement_datetime",
        echo_window_days=30,
    )
    expected = truth(shared, "W03")["truth"][f"{prefix}ecg.csv"]
    assert described.count(labelled=True) == expected["labelled"]
    assert described.positives() == expected.get("positive", described.positives())


def test_w05_paths_written_on_windows(shared: Path, tmp_path: Path, simulated: Manifest) -> None:
    (tmp_path / "files/2019").mkdir(parents=True)
    recordings = Path(simulated.folder).parent / "recordings/institution_1"
    for number, header in enumerate(sorted(recordings.glob("*.hea"))[:40], start=1):
        text = header.read_text().replace(header.stem, f"{number:05d}")
        (tmp_path / f"files/2019/{number:05d}.hea").write_text(text)
        shutil.copy(header.with_suffix(".dat"), tmp_path / f"files/2019/{number:05d}.dat")
    there = len(list((tmp_path / "files/2019").glob("*.hea")))
    manifest = prepare(
        Cohort(
            recordings=str(tmp_path / "files"),
            labels=str(shared / "cases/W05/table.csv"),
            output=str(tmp_path / "dataset"),
            workers=1,
        )
    )
    assert (manifest.count(), manifest.rejected.get("missing", 0)) == (there, 40 - there)


def test_w18_patient_ids_that_differ_in_case_alone(
    shared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    cohort = Cohort(labels=str(shared / "cases/W18/table.csv"), output=str(tmp_path / "dataset"), table_only=True)
    assert main(Config(cohort=cohort), []) == 0
    problem = '40 rows of --labels, column "patient_id": taken as different patients.'
    assert problem in capsys.readouterr().out
    assert "differ by more than case" in caplog.text


def test_what_is_lost_is_said_at_the_end(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [f"{n},p{n},{50 if n % 4 else 'Doe'},2024-01-0{1 + n % 9}" for n in range(12)]
    (tmp_path / "labels.csv").write_text("\n".join(["path,patient_id,lvef,ecg_date", *rows]) + "\n")
    cohort = Cohort(labels=str(tmp_path / "labels.csv"), output=str(tmp_path / "dataset"), table_only=True)
    assert main(Config(cohort=cohort), []) == 0
    *_, listed, unlabelled = capsys.readouterr().out.splitlines()
    assert listed.endswith("dataset/table_problems.csv")
    assert unlabelled == "3 of 12 recordings have no label."

    (tmp_path / "echoes.csv").write_text("patient_id,echo_date,lvef\np0,2024-01-01,30\np1,2020-01-01,30\n")
    assert main(Config(cohort=replace(cohort, echoes=str(tmp_path / "echoes.csv"), ecgs_per_patient="last")), []) == 0
    *_, pairing, _, unlabelled = capsys.readouterr().out.splitlines()
    assert pairing.startswith("1 of 12 ECGs have an echocardiogram within 30 days (")
    assert unlabelled == "11 of 12 recordings have no label."
