import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import wfdb

from keras_ecg_mae.errors import ConfigError, DatasetError
from keras_ecg_mae.simulation.cohort import (
    HEADER_COMMENT,
    draw_institution,
    write_record,
    write_simulated_cohort,
)
from keras_ecg_mae.simulation.counts import Counts
from keras_ecg_mae.simulation.device import MAKES
from keras_ecg_mae.simulation.ecg import simulate
from keras_ecg_mae.simulation.patients import draw_patients
from keras_ecg_mae.spec import LEADS

SETTINGS: dict[str, Any] = {"patients": 13, "institutions": 4, "prevalence": 0.3, "seed": 5}


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, int]:
    folder = tmp_path_factory.mktemp("simulated")
    recordings, labels = folder / "recordings", folder / "labels.csv"
    return recordings, labels, write_simulated_cohort(recordings, labels, **SETTINGS)


def rows_of(labels: Path) -> list[dict[str, str]]:
    with labels.open(newline="") as file:
        return list(csv.DictReader(file))


def test_table_lists_every_record(cohort: tuple[Path, Path, int]) -> None:
    recordings, labels, count = cohort
    rows = rows_of(labels)
    assert tuple(rows[0]) == ("path", "record_id", "patient_id", "institution", "lvef", "age", "sex")
    assert len(rows) == count == len(list(recordings.rglob("*.dat")))
    assert len({row["record_id"] for row in rows}) == count
    assert len({row["patient_id"] for row in rows}) == SETTINGS["patients"]
    assert {row["institution"] for row in rows} == {f"institution_{number}" for number in range(1, 5)}
    assert {row["sex"] for row in rows} <= {"F", "M"}
    assert all(18 <= int(row["age"]) <= 95 for row in rows)
    # One patient, one ejection fraction.
    measured = {(row["patient_id"], row["lvef"]) for row in rows if row["lvef"]}
    assert len(measured) == len({patient for patient, _ in measured})


def test_wfdb_reads_every_record_as_its_device_stores_it(cohort: tuple[Path, Path, int]) -> None:
    recordings, labels, _ = cohort
    for row in rows_of(labels):
        record = wfdb.rdrecord(str(recordings / row["path"]))
        device = MAKES[int(row["institution"].rsplit("_", 1)[1]) - 1]
        assert record.fs == device.sampling_rate_hz
        assert record.sig_name == list(device.leads)
        assert record.units == ["mV"] * len(device.leads)
        assert set(record.fmt) == {"16"}
        assert record.p_signal.shape == (10 * device.sampling_rate_hz, len(device.leads))
        assert np.isfinite(record.p_signal).all()
        assert record.p_signal.std() > 0.05
        assert record.comments == [HEADER_COMMENT]


def test_written_record_holds_the_simulated_millivolts(tmp_path: Path) -> None:
    for number, device in enumerate(MAKES):
        hearts = draw_patients(np.array([30.0]), np.array([70.0]), np.random.default_rng(1))
        ecg_mv = simulate(hearts, device, 1)[0]
        write_record(tmp_path, f"r{number}", ecg_mv, device)
        record = wfdb.rdrecord(str(tmp_path / f"r{number}"))
        for lead, values_mv in zip(record.sig_name, record.p_signal.T, strict=True):
            np.testing.assert_allclose(values_mv, ecg_mv[LEADS.index(lead)], atol=device.resolution_mv / 10)
        digital = wfdb.rdrecord(str(tmp_path / f"r{number}"), physical=False)
        assert digital.checksum == digital.calc_checksum()
        assert digital.init_value == list(digital.d_signal[0])


def test_same_seed_writes_the_same_bytes(cohort: tuple[Path, Path, int], tmp_path: Path) -> None:
    recordings, labels, count = cohort
    assert write_simulated_cohort(tmp_path / "again", tmp_path / "again.csv", **SETTINGS) == count
    assert (tmp_path / "again.csv").read_bytes() == labels.read_bytes()
    for path in recordings.rglob("*.*"):
        assert (tmp_path / "again" / path.relative_to(recordings)).read_bytes() == path.read_bytes()


def test_another_seed_writes_another_cohort(cohort: tuple[Path, Path, int], tmp_path: Path) -> None:
    _, labels, _ = cohort
    write_simulated_cohort(tmp_path / "other", tmp_path / "other.csv", **(SETTINGS | {"seed": 6}))
    assert (tmp_path / "other.csv").read_bytes() != labels.read_bytes()


def test_finished_cohort_is_not_simulated_again(cohort: tuple[Path, Path, int]) -> None:
    recordings, labels, count = cohort
    before = {path: path.stat().st_mtime_ns for path in recordings.rglob("*.dat")}
    assert write_simulated_cohort(recordings, labels, **SETTINGS) == count
    assert before == {path: path.stat().st_mtime_ns for path in recordings.rglob("*.dat")}


def test_another_table_is_never_overwritten(tmp_path: Path) -> None:
    labels = tmp_path / "labels.csv"
    labels.write_text("a hospital's own table\n")
    with pytest.raises(DatasetError, match=r"labels\.csv: Expected no file here"):
        write_simulated_cohort(tmp_path / "recordings", labels, **SETTINGS)
    assert labels.read_text() == "a hospital's own table\n"


def test_broken_off_run_leaves_no_table(tmp_path: Path) -> None:
    # The second institution's folder cannot be made.
    (tmp_path / "recordings").mkdir()
    (tmp_path / "recordings" / "institution_2").write_text("")
    with pytest.raises(DatasetError, match=r"institution_2: Expected a place to write.*File exists"):
        write_simulated_cohort(tmp_path / "recordings", tmp_path / "labels.csv", **SETTINGS)
    assert any((tmp_path / "recordings" / "institution_1").iterdir())
    assert not (tmp_path / "labels.csv").exists()


def test_folder_that_is_a_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "recordings").write_text("")
    with pytest.raises(DatasetError, match=r"recordings: Expected a place to write"):
        write_simulated_cohort(tmp_path / "recordings", tmp_path / "labels.csv", **SETTINGS)


def test_a_negative_seed(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="seed"):
        write_simulated_cohort(tmp_path / "recordings", tmp_path / "labels.csv", **(SETTINGS | {"seed": -1}))


@pytest.mark.parametrize("prevalence", [0.1, 0.25, 0.5])
def test_prevalence_holds_in_every_institution(prevalence: float) -> None:
    for index in range(4):
        institution = draw_institution(index, [Counts("a", 1000)], prevalence, seed=2)
        assert (institution.lvef < 40).mean() == pytest.approx(prevalence, abs=0.001)
        assert institution.lvef.min() > 10
        assert institution.lvef.max() < 80
        assert 1.4 < len(institution.patient) / 1000 < 1.6
        assert 0.02 < 1 - institution.measured.mean() < 0.06


def test_prevalence_holds_in_expectation_in_small_institutions() -> None:
    shares = [(draw_institution(0, [Counts("a", 7)], 0.25, seed).lvef < 40).mean() for seed in range(150)]
    assert np.mean(shares) == pytest.approx(0.25, abs=0.03)
