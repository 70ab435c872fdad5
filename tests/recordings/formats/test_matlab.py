from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import scipy.io
import scipy.sparse

from keras_ecg_mae import spec
from keras_ecg_mae.config import Signal
from keras_ecg_mae.recordings import open_recording
from tests.recordings.conftest import refusal

ECG_MV = np.random.default_rng(0).normal(size=(12, 50)).round(3)
SAID = Signal(sampling_rate_hz=400, unit="mV", leads=spec.LEADS)
CELLS = np.array(spec.LEADS, dtype=object)


def saved(folder: Path, **options: Any) -> Path:
    """A file with what is given as variables; options of `savemat` begin with an underscore."""
    path = folder / "ecg.mat"
    variables = {name: value for name, value in options.items() if not name.startswith("_")}
    scipy.io.savemat(path, variables, **{name[1:]: value for name, value in options.items() if name.startswith("_")})
    return path


def version_73(path: Path, variables: dict[str, Any]) -> Path:
    """A file as MATLAB 7.3 writes it: axes reversed, characters as numbers, cells and structures by reference."""
    with h5py.File(path, "w", userblock_size=512) as file:
        cells = file.create_group("#refs#")

        def write(group: h5py.Group, name: str, value: Any) -> None:
            if isinstance(value, dict):
                for field, content in value.items():
                    write(group.require_group(name), field, content)
            elif isinstance(value, str):
                group[name] = np.array([[ord(character)] for character in value], dtype="u2")
                group[name].attrs["MATLAB_class"] = np.bytes_("char")
            elif isinstance(value, list):
                for number, text in enumerate(value):
                    write(cells, f"{name}{number}", text)
                references = [[cells[f"{name}{number}"].ref] for number in range(len(value))]
                group.create_dataset(name, data=np.array(references, dtype=h5py.ref_dtype))
                group[name].attrs["MATLAB_class"] = np.bytes_("cell")
            else:
                group[name] = np.atleast_2d(value).T
                group[name].attrs["MATLAB_class"] = np.bytes_("double")

        for name, value in variables.items():
            write(file, name, value)
    with open(path, "r+b") as binary:
        binary.write(b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(124) + b"\x00\x02IM")
    return path


@pytest.mark.parametrize("name", ["1238362", "1594286", "2657522", "2969044"])
def test_real_code_15_files_against_scipy(shared: Path, name: str) -> None:
    path = shared / "data" / "formats" / "code15_mat" / f"code_15_{name}.mat"
    error = refusal(path)
    assert error.code == "unit"
    assert "--signal_unit" in error.detail
    assert "--signal_leads" in error.detail
    assert "sampling_rate" not in error.detail
    recording = open_recording(path, Signal(sampling_rate_hz=1, unit="mV", leads=spec.LEADS))
    assert (recording.format, recording.sampling_rate_hz) == ("matlab", 400)
    np.testing.assert_array_equal(recording.ecg_mv, scipy.io.loadmat(path)["feats"])


def test_a_real_wfdb_file_without_its_header(shared: Path, tmp_path: Path) -> None:
    original = shared / "data" / "wfdb" / "cpsc2018" / "A0001"
    assert open_recording(f"{original}.mat").format == "wfdb"
    path = tmp_path / "A0001.mat"
    path.write_bytes(original.with_suffix(".mat").read_bytes())
    assert refusal(path).code == "sampling_rate"
    assert refusal(path, SAID).code == "unit"  # integers in mV
    recording = open_recording(path, Signal(sampling_rate_hz=500, unit="uV", leads=spec.LEADS))
    assert recording.format == "matlab"
    np.testing.assert_array_equal(recording.ecg_mv, open_recording(original).ecg_mv)


@pytest.mark.parametrize("compressed", [False, True])
def test_variables_beside_the_samples(tmp_path: Path, compressed: bool) -> None:
    digital = (ECG_MV * 1000).round().astype("i2")
    variables = {"x": digital, "fs": 257.0, "gain_per_mv": 1000.0, "leads": CELLS, "name": "Jane Doe", "age": 70}
    recording = open_recording(saved(tmp_path, **variables, _do_compression=compressed))
    assert (recording.sampling_rate_hz, recording.leads) == (257, spec.LEADS)
    np.testing.assert_array_equal(recording.ecg_mv, digital / 1000)


def test_rows_of_characters_name_leads(tmp_path: Path) -> None:
    rows = np.array([lead.ljust(3) for lead in spec.LEADS])
    path = saved(tmp_path, signal=ECG_MV.T, fs=500, units="mV", lead_names=rows)
    assert open_recording(path).leads == spec.LEADS


@pytest.mark.parametrize("version", ["4", "5", "7.3"])
def test_a_variable_a_lead(tmp_path: Path, version: str) -> None:
    leads = dict(zip(spec.LEADS, ECG_MV, strict=True)) | {"fs": 500.0, "age": 70.0, "V1_median": np.ones(9)}
    path = version_73(tmp_path / "ecg.mat", leads) if version == "7.3" else saved(tmp_path, **leads, _format=version)
    recording = open_recording(path, Signal(unit="mV"))
    assert (recording.sampling_rate_hz, recording.leads) == (500, spec.LEADS)
    np.testing.assert_array_equal(recording.ecg_mv, ECG_MV)


def test_a_structure_as_cpsc_2018_has_it(tmp_path: Path) -> None:
    path = saved(tmp_path, ECG={"sex": "Male", "age": 70, "data": ECG_MV, "unit": "mV"}, fs=500)
    recording = open_recording(path, Signal(leads=spec.LEADS))
    assert recording.sampling_rate_hz == 500
    np.testing.assert_array_equal(recording.ecg_mv, ECG_MV)


def test_whole_numbers_of_a_double_array_stay_doubles(tmp_path: Path) -> None:
    """MATLAB stores them as bytes; they are not integers that need a gain."""
    ecg = np.zeros((12, 50))
    ecg[:, 25] = 1
    np.testing.assert_array_equal(open_recording(saved(tmp_path, ecg=ecg), SAID).ecg_mv, ecg)


def test_one_record_of_many(tmp_path: Path) -> None:
    many = np.stack([ECG_MV, ECG_MV * 2, ECG_MV * 3])
    path = saved(tmp_path, ecg=many)
    np.testing.assert_array_equal(open_recording(f"{path}#1", SAID).ecg_mv, many[1])
    path = saved(tmp_path, ecg=many, exam_id=[[31, 41, 59]])
    np.testing.assert_array_equal(open_recording(f"{path}#59", SAID).ecg_mv, many[2])
    for ids in (np.array(["one", "two", "three"]), np.array(["one", "two", "three"], dtype=object)):
        path = saved(tmp_path, ecg=many, record_id=ids)
        np.testing.assert_array_equal(open_recording(f"{path}#two", SAID).ecg_mv, many[1])
        assert "3 recordings" in refusal(path, SAID).detail


def test_version_73(tmp_path: Path) -> None:
    path = version_73(tmp_path / "ecg.mat", {"val": ECG_MV, "fs": 500, "unit": "mV", "lead_names": list(spec.LEADS)})
    recording = open_recording(path)
    assert (recording.format, recording.sampling_rate_hz, recording.leads) == ("matlab", 500, spec.LEADS)
    np.testing.assert_array_equal(recording.ecg_mv, ECG_MV)
    path = version_73(tmp_path / "ecg.mat", {"ECG": {"data": ECG_MV.T, "age": 70, "fs": 250}})
    assert open_recording(path, SAID).sampling_rate_hz == 250
    np.testing.assert_array_equal(open_recording(path, SAID).ecg_mv, ECG_MV)


def test_version_73_of_many(tmp_path: Path) -> None:
    many = np.stack([ECG_MV, ECG_MV * 2, ECG_MV * 3])
    path = tmp_path / "ecg.mat"
    version_73(path, {"ids": np.array([[5, 6, 7]])})
    with h5py.File(path, "a") as file:
        file["ecg"] = many.T  # (records, leads, samples) in MATLAB
    np.testing.assert_array_equal(open_recording(f"{path}#6", SAID).ecg_mv, many[1])


def test_arrays_that_are_no_samples(tmp_path: Path) -> None:
    for ecg in (scipy.sparse.csc_matrix(ECG_MV), "text", CELLS):
        assert refusal(saved(tmp_path, ecg=ecg), SAID).code in ("unknown_format", "malformed")
