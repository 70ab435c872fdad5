import ast
import io
import struct
import time
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

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


def test_the_first_samples_of_a_real_file_by_eye(shared: Path) -> None:
    recording = open_recording(str(shared / "data" / "formats" / "npz" / "lbbb.npz"))
    np.testing.assert_array_equal(recording.ecg_mv[:3, 0], [-0.055, -0.055, 0.0])


def test_a_member_that_is_not_needed_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "ecg.npz"
    np.savez_compressed(
        path, digital=(ECG_MV * 1000).round().astype("i2"), gain_per_mv=1e3, metadata="Jane Doe", note=np.array([None])
    )
    opened = []
    original = zipfile.ZipFile.open

    def recorded(self: zipfile.ZipFile, name: zipfile.ZipInfo, *arguments: object) -> object:
        opened.append(name.filename)
        return original(self, name, *arguments)  # type: ignore[arg-type]  # passed on as they came

    monkeypatch.setattr(zipfile.ZipFile, "open", recorded)
    np.testing.assert_allclose(open_recording(path, SAID).ecg_mv, ECG_MV, atol=5e-4)
    assert set(opened) == {"digital.npy", "gain_per_mv.npy"}


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    dtype=st.sampled_from([f"{order}{kind}" for order in "<>" for kind in ("f2", "f4", "f8", "i2", "i4", "i8", "u2")]),
    leads=st.integers(2, 12),
    samples=st.integers(13, 40),
    fortran=st.booleans(),
    leads_first=st.booleans(),
    records=st.integers(0, 3),
    container=st.sampled_from(["npy", "stored", "deflated"]),
    seed=st.integers(0, 2**32 - 1),
)
def test_round_trip(
    tmp_path: Path,
    dtype: str,
    leads: int,
    samples: int,
    fortran: bool,
    leads_first: bool,
    records: int,
    container: str,
    seed: int,
) -> None:
    shape = (leads, samples) if leads_first else (samples, leads)
    rng = np.random.default_rng(seed)
    ecg = rng.uniform(-5, 5, (records, *shape) if records else shape)
    ecg = (ecg + 6) * 1000 if "f" not in dtype else ecg
    array = np.asarray(ecg.astype(dtype), order="F" if fortran else "C")
    signal = Signal(sampling_rate_hz=250, unit="mV" if "f" in dtype else "uV", leads=spec.LEADS[:leads])
    if container == "npy":
        path = tmp_path / "ecg.npy"
        np.save(path, array)
    else:
        path = tmp_path / "ecg.npz"
        (np.savez if container == "stored" else np.savez_compressed)(path, ecg=array)
    for row in range(records) if records else [None]:
        recording = open_recording(path if row is None else f"{path}#{row}", signal)
        expected = array.astype(np.float64)[() if row is None else row] / (1 if "f" in dtype else 1000)
        np.testing.assert_array_equal(recording.ecg_mv, expected if leads_first else expected.T)
        assert recording.sampling_rate_hz == 250


def test_one_record_of_an_array_larger_than_memory(tmp_path: Path) -> None:
    records = 10_000_000
    header = f"{{'descr': '<f4', 'fortran_order': False, 'shape': ({records}, 12, 5000), }}"
    path = npy_with_header(tmp_path / "ecg.npy", header)
    start = path.stat().st_size
    with open(path, "r+b") as file:
        file.truncate(start + records * 240_000)  # sparse: 2.4 TB
        file.seek(start + 9_999_999 * 240_000)
        file.write(np.full((12, 5000), 0.5, "<f4").tobytes())
    began = time.perf_counter()
    assert (open_recording(f"{path}#9999999", SAID).ecg_mv == 0.5).all()
    assert time.perf_counter() - began < 1


@pytest.mark.parametrize(
    ("header", "code"),
    [
        ("{'descr': '<f8', 'fortran_order': False, 'shape': (12, 50), }", "truncated"),
        ("{'descr': '<f8', 'fortran_order': False, 'shape': (12, 5000000000000), }", "too_long"),
        ("{'descr': '<f8', 'fortran_order': False, 'shape': (99999999999, 12, 50), }", "missing"),
        ("{'descr': '<f8', 'fortran_order': False, 'shape': (12, 99999999999999999999), }", "malformed"),
        ("{'descr': '<f8', 'fortran_order': False, 'shape': (" + "9, " * 60 + "), }", "malformed"),
        ("{'descr': '|O', 'fortran_order': False, 'shape': (12, 50), }", "unsafe"),
        ("{'descr': [('x', '|O')], 'fortran_order': False, 'shape': (12, 50), }", "unsafe"),
        ("{'descr': [('x', '<f8')], 'fortran_order': False, 'shape': (12, 50), }", "malformed"),
        ("{'descr': '<f16', 'fortran_order': False, 'shape': (12, 50), }", "malformed"),
        ("{'descr': '<c8', 'fortran_order': False, 'shape': (12, 50), }", "malformed"),
        ("{'descr': '<M8[s]', 'fortran_order': False, 'shape': (12, 50), }", "malformed"),
        ("{'descr': '<f8', 'fortran_order': 0, 'shape': (12, 50), }", "malformed"),
        ("{'descr': '<f8', 'fortran_order': False, 'shape': (-12, 50), }", "malformed"),
        ("{'descr': '<f8', 'fortran_order': False, 'shape': (12, 50)", "malformed"),
        ("{'descr': '<f8', 'fortran_order': False}", "malformed"),
        ("__import__('os').abort()", "malformed"),
        ("(" * 5000, "malformed"),
        ("", "malformed"),
    ],
)
def test_headers_that_declare_something_else(tmp_path: Path, header: str, code: str) -> None:
    assert refusal(npy_with_header(tmp_path / "ecg.npy", header), SAID).code == code


def test_headers_as_others_write_them(tmp_path: Path) -> None:
    for header in (
        "{'descr': '<f8', 'fortran_order': False, 'shape': (12, 50)}",
        "{'fortran_order':False,'shape':(12,50),'descr':'<f8'}\n",
        "{'shape': (12L, 50L), 'fortran_order': False, 'descr': '<f8'}   \n",
    ):
        assert "L" in header or ast.literal_eval(header.strip())
        path = npy_with_header(tmp_path / "ecg.npy", header, ECG_MV.tobytes())
        np.testing.assert_array_equal(open_recording(path, SAID).ecg_mv, ECG_MV)


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
    for word in ("--signal_leads", "NAME.json", "Python objects"):
        assert word in caught.value.detail
    recording = open_recording(tmp_path / "ecg.npz", Signal(leads=spec.LEADS))
    np.testing.assert_array_equal(recording.ecg_mv, ECG_MV)
    # What changes the samples cannot be passed over.
    np.savez(tmp_path / "ecg.npz", ecg=ECG_MV.round(), gain_per_mv=np.array([200], dtype=object))
    assert refusal(tmp_path / "ecg.npz", SAID).code == "unsafe"
    np.savez(tmp_path / "ecg.npz", ecg=ECG_MV.round(), gain=np.array([200], dtype=object))
    assert refusal(tmp_path / "ecg.npz", SAID).code == "unsafe"


def zeros_member(archive: zipfile.ZipFile, name: str, size: int) -> None:
    header = f"{{'descr': '<f8', 'fortran_order': False, 'shape': (12, {size // 96}), }}".encode()
    with archive.open(name, "w", force_zip64=True) as member:
        member.write(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header)
        for _ in range(size >> 24):
            member.write(bytes(1 << 24))


@pytest.mark.parametrize("name", ["ecg.npy", "metadata.npy"])
def test_a_zip_bomb(tmp_path: Path, name: str) -> None:
    path = tmp_path / "ecg.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        archive.writestr("fs.npy", b"")
        zeros_member(archive, name, 19 << 24)
    assert path.stat().st_size < 2 << 20
    began = time.perf_counter()
    assert refusal(path, SAID).code == "unsafe"
    assert time.perf_counter() - began < 1


def test_a_member_that_hides_its_size(tmp_path: Path) -> None:
    """A directory that declares a small member, or an impossible ratio, over a large one."""
    path = tmp_path / "ecg.npz"
    np.savez_compressed(path, ecg=np.zeros((12, 100_000)))
    content = path.read_bytes()
    entry = content.rindex(b"PK\x01\x02")
    for size in (0, 1000, 1 << 20, (1 << 27) + 1):
        lie = bytearray(content)
        struct.pack_into("<I", lie, entry + 24, size)
        path.write_bytes(lie)
        assert refusal(path, SAID).code in ("unsafe", "malformed", "truncated")


def test_a_directory_of_millions(tmp_path: Path) -> None:
    path = tmp_path / "ecg.npz"
    buffer = io.BytesIO()
    np.savez(buffer, ecg=ECG_MV)
    local = buffer.getvalue()[: buffer.getvalue().rindex(b"PK\x01\x02")]
    entry = b"PK\x01\x02" + bytes(42)
    directory = entry * 1_000_000
    end = struct.pack("<4s4H2IH", b"PK\x05\x06", 0, 0, 65535, 65535, len(directory), len(local), 0)
    path.write_bytes(local + directory + end)
    began = time.perf_counter()
    assert refusal(path, SAID).code == "unsafe"
    assert time.perf_counter() - began < 1


def test_other_compressions_and_zips(tmp_path: Path) -> None:
    path = tmp_path / "ecg.npz"
    buffer = io.BytesIO()
    np.save(buffer, ECG_MV)
    for compression in (zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2):
        with zipfile.ZipFile(path, "w", compression) as archive:
            archive.writestr("ecg.npy", buffer.getvalue())
        assert refusal(path, SAID).code == "unknown_format"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("xl/workbook.xml", "")
    assert not is_npz(Source(str(path)))
    assert not is_npy(Source(str(path)))
    assert refusal(path, SAID).code == "unknown_format"


def test_damage_in_a_member_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "ecg.npz"
    np.savez(path, ecg=ECG_MV)
    content = bytearray(path.read_bytes())
    content[1000] ^= 1
    path.write_bytes(content)
    assert refusal(path, SAID).code == "malformed"


def test_a_late_record_of_a_compressed_file(tmp_path: Path) -> None:
    """What lies before it must be decompressed, so there is a limit, which NPY and HDF5 have not."""
    path = tmp_path / "ecg.npz"
    rng = np.random.default_rng(0)
    many = np.broadcast_to(rng.normal(size=(1, 12, 5000)), (20, 12, 5000))
    np.savez_compressed(path, ecg=many)
    np.testing.assert_array_equal(open_recording(f"{path}#19", SAID).ecg_mv, many[0])
    shape = (1000, 12, 5000)
    header = f"{{'descr': '<f8', 'fortran_order': False, 'shape': {shape}, }}".encode()
    with zipfile.ZipFile(path, "w") as archive, archive.open("ecg.npy", "w") as member:
        member.write(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header)
        for _ in range(shape[0]):
            member.write(bytes(480_000))
    assert (open_recording(f"{path}#5", SAID).ecg_mv == 0).all()
    error = refusal(f"{path}#999", SAID)
    assert error.code == "too_long"
    assert "HDF5" in error.detail


@pytest.mark.parametrize("read", [open_recording])
def test_files_that_cannot_be_read(tmp_path: Path, read: Callable[[str], object]) -> None:
    for path in (str(tmp_path / "none"), str(tmp_path), "", "null\0byte", "x" * 5000):
        with pytest.raises(RecordingError):
            read(path)
        assert not is_npy(Source(str(path)))
        assert not is_npz(Source(str(path)))


def test_damage_behind_a_matching_checksum(tmp_path: Path) -> None:
    """Members whose NPY content is damaged while the zip is whole."""
    rng = np.random.default_rng(0)
    member = io.BytesIO()
    np.save(member, np.array(spec.LEADS))
    codes = set()
    for _ in range(300):
        damaged = bytearray(member.getvalue())
        for place in rng.integers(len(damaged), size=2):
            damaged[place] = rng.integers(256)
        path = tmp_path / "ecg.npz"
        np.savez(path, ecg=ECG_MV)
        with zipfile.ZipFile(path, "a") as archive:
            archive.writestr("leads.npy", bytes(damaged))
            assert zlib.crc32(damaged) == archive.getinfo("leads.npy").CRC
        try:
            open_recording(str(path), SAID)
        except RecordingError as error:
            codes.add(error.code)
    assert "malformed" in codes
    assert codes <= {"malformed", "truncated", "leads", "unsafe"}
