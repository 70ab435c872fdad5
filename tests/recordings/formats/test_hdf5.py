from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from keras_ecg_mae import spec
from keras_ecg_mae.config import Signal
from keras_ecg_mae.errors import RecordingError
from keras_ecg_mae.recordings import conform, open_recording
from keras_ecg_mae.recordings.formats.hdf5 import is_hdf5
from keras_ecg_mae.recordings.source import Source
from tests.recordings.conftest import refusal

ECG_MV = np.random.default_rng(0).normal(size=(12, 50)).round(3)
SAID = Signal(sampling_rate_hz=400, unit="mV", leads=spec.LEADS)
TOLD = {"sampling_rate": 500.0, "unit": "mV", "leads": list(spec.LEADS)}


def stored(path: Path, ecg: Any = ECG_MV, name: str = "ecg", attributes: Any = None, **options: Any) -> Path:
    with h5py.File(path, "w") as file:
        file.create_dataset(name, data=ecg, **options).attrs.update(attributes or {})
    return path


@pytest.fixture
def code15(tmp_path: Path) -> tuple[Path, np.ndarray]:
    """As CODE-15 is published: float32, 4096 samples a record, shorter ones padded with zeros at both ends."""
    tracings = np.random.default_rng(0).normal(size=(5, 4096, 12)).astype("f4")
    tracings[1, :48] = tracings[1, -48:] = 0
    tracings[2, :581] = tracings[2, -581:] = 0
    tracings[3] = 0
    path = tmp_path / "exams_part0.hdf5"
    with h5py.File(path, "w") as file:
        file["tracings"] = tracings
        file["exam_id"] = [1169160, 2873686, 168405, 271011, 384368]
    return path, tracings


def test_code_15(code15: tuple[Path, np.ndarray]) -> None:
    path, tracings = code15
    assert is_hdf5(Source(str(f"{path}#2873686")))
    recording = open_recording(f"{path}#1169160", SAID)
    assert (recording.format, recording.sampling_rate_hz, recording.leads) == ("hdf5", 400, spec.LEADS)
    np.testing.assert_array_equal(recording.ecg_mv, tracings[0].T)
    assert conform(recording).shape == (12, 5000)


def test_code_15_padding_is_no_signal(code15: tuple[Path, np.ndarray]) -> None:
    path, tracings = code15
    np.testing.assert_array_equal(open_recording(f"{path}#2873686", SAID).ecg_mv, tracings[1, 48:-48].T)
    short = open_recording(f"{path}#168405", SAID)
    np.testing.assert_array_equal(short.ecg_mv, tracings[2, 581:-581].T)
    with pytest.raises(RecordingError) as caught:
        conform(short)
    assert caught.value.code == "too_short"
    assert open_recording(f"{path}#271011", SAID).ecg_mv.shape == (12, 4096)


def test_code_15_does_not_state_its_unit(code15: tuple[Path, np.ndarray]) -> None:
    error = refusal(f"{code15[0]}#1169160", Signal(sampling_rate_hz=400, leads=spec.LEADS))
    assert error.code == "unit"
    assert "--signal_unit" in error.detail


def test_one_of_many_must_be_named(code15: tuple[Path, np.ndarray]) -> None:
    path, _ = code15
    for name in (str(path), f"{path}#7"):
        error = refusal(name)
        assert (error.code, "5 recordings" in error.detail, "examid" in error.detail) == ("missing", True, True)


@pytest.mark.parametrize("name", ["record_id", "ids", "id"])
def test_ids_of_other_names_and_texts(tmp_path: Path, name: str) -> None:
    path = stored(tmp_path / "many.h5", np.stack([ECG_MV, 2 * ECG_MV]))
    with h5py.File(path, "a") as file:
        file[name] = ["first", "déjà"]
    np.testing.assert_array_equal(open_recording(f"{path}#déjà", SAID).ecg_mv, 2 * ECG_MV)
    assert refusal(f"{path}#second", SAID).code == "missing"


def test_only_the_record_that_is_asked_for_is_read(tmp_path: Path) -> None:
    """Of 20,000 records, 19,999 lie in chunks that cannot be decompressed."""
    path = tmp_path / "many.h5"
    with h5py.File(path, "w") as file:
        tracings = file.create_dataset(
            "tracings", (20_000, 4096, 12), "f4", chunks=(1, 4096, 12), compression="gzip", fillvalue=1
        )
        tracings[17_000] = np.full((4096, 12), 0.5)
        for row in (0, 16_999, 17_001):
            tracings.id.write_direct_chunk((row, 0, 0), b"damaged")
    assert (open_recording(f"{path}#17000", SAID).ecg_mv == 0.5).all()
    assert refusal(f"{path}#16999", SAID).code == "malformed"


@pytest.mark.parametrize("name", ["ecg", "anything", "rest/lead data/signal"])
def test_a_file_a_record(tmp_path: Path, name: str) -> None:
    path = stored(tmp_path / "ecg.h5", ECG_MV.T, name, TOLD, compression="gzip", shuffle=True, fletcher32=True)
    recording = open_recording(path)
    assert (recording.sampling_rate_hz, recording.leads) == (500, spec.LEADS)
    np.testing.assert_array_equal(recording.ecg_mv, ECG_MV)


def test_what_is_said_in_groups_and_datasets(tmp_path: Path) -> None:
    path = stored(tmp_path / "ecg.h5", (ECG_MV * 1000).round().astype("i2"), "ecg/signal")
    with h5py.File(path, "a") as file:
        file.attrs["Sampling Rate"] = np.int32(500)
        file["ecg"].attrs["lead_names"] = ",".join(spec.LEADS)
        file["ecg/gain_per_mv"] = 1000
        file.create_group("ppg").attrs["fs"] = 100.0  # another signal's
        file["ecg/time"] = np.arange(50) / 500
        file["ecg/time"].attrs["units"] = "s"  # not the samples'
    recording = open_recording(path)
    assert recording.sampling_rate_hz == 500
    np.testing.assert_allclose(recording.ecg_mv, ECG_MV, rtol=1e-15)


def test_links_that_leave_the_file(tmp_path: Path) -> None:
    stored(tmp_path / "other.h5")
    path = tmp_path / "ecg.h5"
    with h5py.File(path, "w") as file:
        file["ecg"] = h5py.ExternalLink("other.h5", "/ecg")
    assert refusal(path, SAID).code == "unknown_format"
    with h5py.File(path, "w") as file:
        file["ecg"] = h5py.SoftLink("/elsewhere")
        file["linked"] = ECG_MV
        file["loop"] = file["/"]
    np.testing.assert_array_equal(open_recording(path, SAID).ecg_mv, ECG_MV)


def test_samples_that_lie_in_another_file(tmp_path: Path) -> None:
    (tmp_path / "samples").write_bytes(ECG_MV.tobytes())
    path = tmp_path / "ecg.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("ecg", (12, 50), "f8", external=[(str(tmp_path / "samples"), 0, h5py.h5f.UNLIMITED)])
    assert refusal(path, SAID).code == "unknown_format"
    layout = h5py.VirtualLayout((12, 50), "f8")
    layout[:] = h5py.VirtualSource(stored(tmp_path / "other.h5"), "ecg", (12, 50))
    with h5py.File(path, "w") as file:
        file.create_virtual_dataset("ecg", layout)
    assert refusal(path, SAID).code == "unknown_format"


def test_compression_that_needs_a_plugin(tmp_path: Path) -> None:
    path = tmp_path / "ecg.h5"
    properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    properties.set_chunk((12, 50))
    properties.set_filter(32015, h5py.h5z.FLAG_OPTIONAL, ())  # Zstandard
    with h5py.File(path, "w") as file:
        h5py.h5d.create(file.id, b"ecg", h5py.h5t.IEEE_F64LE, h5py.h5s.create_simple((12, 50)), properties)
    error = refusal(path, SAID)
    assert error.code == "unknown_format"
    assert "32015" in error.detail


def test_types_that_are_no_samples(tmp_path: Path) -> None:
    for ecg in (ECG_MV.astype("c16"), np.zeros((12, 50), [("x", "f4")]), np.full((12, 50), b"x"), ECG_MV > 0):
        assert refusal(stored(tmp_path / "ecg.h5", ecg), SAID).code == "unknown_format"
