import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest

from keras_ecg_mae import spec
from keras_ecg_mae.config import Signal
from keras_ecg_mae.errors import RecordingError
from keras_ecg_mae.recordings import open_recording
from keras_ecg_mae.recordings.formats.numpy import is_npy, is_npz
from keras_ecg_mae.recordings.source import Source
from tests.recordings.conftest import refusal

ECG_MV = np.random.default_rng(0).normal(size=(12, 50)).round(3)
SAID = Signal(sampling_rate_hz=500, unit="mV", leads=spec.LEADS)


def npy_with_header(path: Path, header: str, data: bytes = b"") -> Path:
    encoded = header.encode("latin-1")
    path.write_bytes(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(encoded)) + encoded + data)
    return path


@pytest.mark.parametrize("name", ["af", "lbbb", "sinus"])
def test_real_files_against_numpy(shared: Path, name: str) -> None:
    path = shared / "data" / "formats" / "npz" / f"{name}.npz"
    recording = open_recording(path)
    with np.load(path) as members:
        np.testing.assert_array_equal(recording.ecg_mv, members["digital"] / 1000)
    assert (recording.format, recording.sampling_rate_hz, recording.leads) == ("npz", 500, spec.LEADS)


def test_one_record_of_an_array_larger_than_memory(tmp_path: Path) -> None:
    records = 10_000_000
    header = f"{{'descr': '<f4', 'fortran_order': False, 'shape': ({records}, 12, 5000), }}"
    path = npy_with_header(tmp_path / "ecg.npy", header)
    start = path.stat().st_size
    with open(path, "r+b") as file:
        file.truncate(start + records * 240_000)  # sparse: 2.4 TB
        file.seek(start + 9_999_999 * 240_000)
        file.write(np.full((12, 5000), 0.5, "<f4").tobytes())
    assert (open_recording(f"{path}#9999999", SAID).ecg_mv == 0.5).all()


def test_arrays_of_objects(tmp_path: Path) -> None:
    objects = np.array([[None] * 50] * 12, dtype=object)
    np.save(tmp_path / "ecg.npy", objects)
    np.savez(tmp_path / "ecg.npz", ecg=objects)
    for name in ("ecg.npy", "ecg.npz"):
        error = refusal(tmp_path / name, SAID)
        assert error.code == "unsafe"
        assert "Python objects" in error.detail


def test_texts_stored_as_python_objects(tmp_path: Path) -> None:
    """As `np.array` makes them of a column of pandas."""
    leads = np.array(spec.LEADS, dtype=object)
    np.savez(tmp_path / "ecg.npz", ecg=ECG_MV, fs=500, unit="mV", leads=leads)
    with pytest.raises(RecordingError) as caught:
        open_recording(tmp_path / "ecg.npz")
    assert caught.value.code == "leads"
    assert "--signal_leads" in caught.value.detail
    recording = open_recording(tmp_path / "ecg.npz", Signal(leads=spec.LEADS))
    np.testing.assert_array_equal(recording.ecg_mv, ECG_MV)
    # What changes the samples cannot be passed over.
    np.savez(tmp_path / "ecg.npz", ecg=ECG_MV.round(), gain_per_mv=np.array([200], dtype=object))
    assert refusal(tmp_path / "ecg.npz", SAID).code == "unit"
    np.savez(tmp_path / "ecg.npz", ecg=ECG_MV.round(), gain=np.array([200], dtype=object))
    assert refusal(tmp_path / "ecg.npz", SAID).code == "unit"


def test_other_zips_are_not_recognized(tmp_path: Path) -> None:
    path = tmp_path / "ecg.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("xl/workbook.xml", "")
    assert not is_npz(Source(str(path)))
    assert not is_npy(Source(str(path)))
    assert refusal(path, SAID).code == "unknown_format"


def test_what_is_not_needed_costs_no_ecg(tmp_path: Path) -> None:
    """Python objects, and a member that is no array."""
    path = tmp_path / "ecg.npz"
    np.savez_compressed(path, ecg=ECG_MV, metadata="Jane Doe", note=np.array([None]))
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("readme.txt", "Jane Doe")
    np.testing.assert_array_equal(open_recording(path, SAID).ecg_mv, ECG_MV)


@pytest.mark.parametrize("dtype", ["<f2", "<f4", ">f8", "<i2", ">i4", "<i8", "<u2"])
@pytest.mark.parametrize("container", ["npy", "stored", "deflated"])
def test_types_orders_and_records(tmp_path: Path, dtype: str, container: str) -> None:
    is_whole = "f" not in dtype
    signal = Signal(sampling_rate_hz=250, unit="uV" if is_whole else "mV", leads=spec.LEADS)
    many = np.random.default_rng(0).uniform(1, 5, (3, 50, 12)) * (1000 if is_whole else 1)
    for order in ("C", "F"):
        array = np.asarray(many.astype(dtype), order=order)
        path = tmp_path / "ecg"
        with open(path, "wb") as file:
            if container == "npy":
                np.save(file, array)
            else:
                (np.savez if container == "stored" else np.savez_compressed)(file, ecg=array)
        recording = open_recording(f"{path}#2", signal)
        expected = array[2].T.astype(np.float64) / (1000 if is_whole else 1)
        np.testing.assert_array_equal(recording.ecg_mv, expected)
