import json
import socket
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.io
import wfdb

from keras_ecg_mae.config import Signal
from keras_ecg_mae.recordings import open_recording
from keras_ecg_mae.recordings.formats.wfdb import is_wfdb
from keras_ecg_mae.recordings.source import Source
from tests.recordings.conftest import refusal

LEADS = ["I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6"]
SAMPLES = 600
DIGITAL = np.random.default_rng(0).integers(-2000, 2000, (SAMPLES, 12)).astype("<i2")


def write_record(
    folder: Path,
    record_line: str = f"rec 12 500 {SAMPLES}",
    signal: str = "rec.mat 16+24 1000/mV 16 0 0 0 0",
    comment: str = "#Name: Jane Doe",
    samples: bytes = bytes(24) + DIGITAL.tobytes(),
) -> str:
    """A record as the CinC challenges lay it out: a 24-byte MATLAB header, then int16, sample by sample."""
    lines = [record_line, *(f"{signal} {lead}" for lead in LEADS), comment]
    (folder / "rec.hea").write_text("\n".join(lines) + "\n", encoding="utf-8")
    (folder / "rec.mat").write_bytes(samples)
    return str(folder / "rec")


def test_real_cinc_record_against_matlab_reader(shared: Path) -> None:
    path = shared / "data" / "wfdb" / "ptbxl" / "HR00001"
    recording = open_recording(str(path))
    assert recording.leads == tuple(LEADS)
    assert recording.sampling_rate_hz == 500
    assert recording.format == "wfdb"
    assert recording.ecg_mv.dtype == np.float64
    np.testing.assert_array_equal(recording.ecg_mv, scipy.io.loadmat(f"{path}.mat")["val"] / 1000)
    # The header's first samples, by eye: -115, -50 and 65 units at 1000 a millivolt.
    np.testing.assert_allclose(recording.ecg_mv[:3, 0], [-0.115, -0.050, 0.065], rtol=1e-12)


def test_real_records_against_wfdb(shared: Path) -> None:
    for folder in sorted((shared / "data" / "wfdb").iterdir()):
        path = str(sorted(folder.glob("*.hea"))[-1].with_suffix(""))
        record = wfdb.rdrecord(path)
        recording = open_recording(path)
        assert recording.sampling_rate_hz == record.fs
        np.testing.assert_array_equal(recording.ecg_mv, record.p_signal.T)


def test_georgia_header_with_a_dot_in_the_record_name(tmp_path: Path) -> None:
    path = write_record(tmp_path, record_line=f"E07500.mat 12 500 {SAMPLES} 05-May-2020 11:58:58")
    with pytest.raises(ValueError, match="record line"):
        wfdb.rdrecord(path)
    np.testing.assert_array_equal(open_recording(path).ecg_mv, DIGITAL.T / 1000)


@pytest.mark.parametrize(
    ("gain", "unit_mv"),
    [
        ("1/microvolts", 1e-3),
        ("1000/mV", 1e-3),
        ("1000(0)/MV", 1e-3),
        ("0.5/uV", 2e-3),
        ("1/\N{MICRO SIGN}V", 1e-3),
        ("1/\N{GREEK SMALL LETTER MU}V", 1e-3),
        ("1e6/V", 1e-3),
        ("-1000/mV", -1e-3),
    ],
)
def test_units(tmp_path: Path, gain: str, unit_mv: float) -> None:
    path = write_record(tmp_path, signal=f"rec.mat 16+24 {gain} 16 0 0 0 0")
    np.testing.assert_allclose(open_recording(path).ecg_mv, DIGITAL.T * unit_mv, rtol=1e-12)


def test_micro_sign_in_latin_1(tmp_path: Path) -> None:
    path = write_record(tmp_path, signal="rec.mat 16+24 1/\N{MICRO SIGN}V 16 0 0 0 0")
    header = tmp_path / "rec.hea"
    header.write_bytes(header.read_text("utf-8").encode("latin-1"))
    np.testing.assert_allclose(open_recording(path).ecg_mv, DIGITAL.T / 1000, rtol=1e-12)


def test_baseline_and_where_it_comes_from(tmp_path: Path) -> None:
    path = write_record(tmp_path, signal="rec.mat 16+24 1000(-100)/mV 16 7 0 0 0")
    np.testing.assert_array_equal(open_recording(path).ecg_mv, (DIGITAL.T + 100.0) / 1000)
    path = write_record(tmp_path, signal="rec.mat 16+24 1000/mV 16 7 0 0 0")
    np.testing.assert_array_equal(open_recording(path).ecg_mv, (DIGITAL.T - 7.0) / 1000)


def test_invalid_samples_are_nan(tmp_path: Path) -> None:
    digital = DIGITAL.copy()
    digital[17, 3] = -32768
    ecg_mv = open_recording(write_record(tmp_path, samples=bytes(24) + digital.tobytes())).ecg_mv
    assert np.argwhere(np.isnan(ecg_mv)).tolist() == [[3, 17]]


def test_length_from_the_file_where_the_header_has_none(tmp_path: Path) -> None:
    assert open_recording(write_record(tmp_path, record_line="rec 12 500")).ecg_mv.shape == (12, SAMPLES)
    assert open_recording(write_record(tmp_path, record_line="rec 12 500 0")).ecg_mv.shape == (12, SAMPLES)


def test_several_samples_a_frame_raise_the_rate(tmp_path: Path) -> None:
    path = write_record(tmp_path, record_line=f"rec 12 250 {SAMPLES // 2}", signal="rec.mat 16x2+24 1000/mV 16 0 0 0 0")
    recording = open_recording(path)
    assert recording.sampling_rate_hz == 500
    frames = DIGITAL.reshape(SAMPLES // 2, 12, 2)
    np.testing.assert_array_equal(recording.ecg_mv, frames.transpose(1, 0, 2).reshape(12, SAMPLES) / 1000)


@pytest.mark.parametrize(
    ("record_line", "code"),
    [
        ("rec 12 0 600", "sampling_rate"),
        ("rec 12", "sampling_rate"),
        ("rec 12 1e999 600", "sampling_rate"),
        ("rec 12 fast 600", "malformed"),
        ("rec 13 500 600", "malformed"),
        ("rec 0 500 600", "malformed"),
        ("\x00\xff\x13", "malformed"),
        ("rec/2 12 500 600", "unknown_format"),
        ("rec 12 500 601", "truncated"),
    ],
)
def test_bad_record_lines(tmp_path: Path, record_line: str, code: str) -> None:
    assert refusal(write_record(tmp_path, record_line=record_line)).code == code


@pytest.mark.parametrize(
    ("signal", "code"),
    [
        ("rec.mat 16+24 1000/mmHg 16 0 0 0 0", "unit"),
        ("rec.mat 16+24 0/mV 16 0 0 0 0", "unit"),
        ("rec.mat 16+24 1000;mV 16 0 0 0 0", "malformed"),
        ("rec.mat 17+24 1000/mV 16 0 0 0 0", "unknown_format"),
        ("rec.mat 16+26 1000/mV 16 0 0 0 0", "truncated"),
        ("other.mat 16+24 1000/mV 16 0 0 0 0", "missing"),
        ("~ 0 1000/mV 16 0 0 0 0", "unknown_format"),
        ("../rec.mat 16+24 1000/mV 16 0 0 0 0", "outside_root"),
        ("/etc/passwd 16+24 1000/mV 16 0 0 0 0", "outside_root"),
        ("https://example.org/rec.mat 16+24 1000/mV 16 0 0 0 0", "outside_root"),
    ],
)
def test_bad_signal_lines(tmp_path: Path, signal: str, code: str) -> None:
    assert refusal(write_record(tmp_path, signal=signal)).code == code


def test_one_file_s_signals_apart(tmp_path: Path) -> None:
    path = write_record(tmp_path)
    header = tmp_path / "rec.hea"
    lines = header.read_text().splitlines()
    (tmp_path / "two.mat").write_bytes(bytes(24) + DIGITAL[:, 1].tobytes())
    (tmp_path / "rec.mat").write_bytes(bytes(24) + np.delete(DIGITAL, 1, axis=1).tobytes())
    header.write_text("\n".join([*lines[:2], lines[2].replace("rec.mat", "two.mat"), *lines[3:]]))
    recording = open_recording(path)
    assert recording.leads == tuple(LEADS)
    np.testing.assert_array_equal(recording.ecg_mv, DIGITAL.T / 1000)


def test_a_signal_file_for_each_lead(tmp_path: Path) -> None:
    signals = [f"{row}.dat 16 1000/mV 16 0 0 0 0 {lead}" for row, lead in enumerate(LEADS)]
    (tmp_path / "rec.hea").write_text("\n".join([f"rec 12 500 {SAMPLES}", *signals]))
    for row in range(12):
        (tmp_path / f"{row}.dat").write_bytes(DIGITAL[:, row].tobytes())
    np.testing.assert_array_equal(open_recording(str(tmp_path / "rec")).ecg_mv, DIGITAL.T / 1000)


@pytest.mark.parametrize("lost", [1, DIGITAL.nbytes])
@pytest.mark.parametrize("offset", [0, 24])
def test_truncated_samples(tmp_path: Path, lost: int, offset: int) -> None:
    samples = bytes(24) + DIGITAL.tobytes()
    path = write_record(
        tmp_path, signal=f"rec.mat 16+{offset} 1000/mV 16 0 0 0 0", samples=samples[24 - offset : -lost]
    )
    error = refusal(path)
    assert error.code == "truncated"


@pytest.mark.parametrize("sample_format", ["8", "16", "24", "32", "61", "80", "160", "212", "310", "311"])
def test_every_uncompressed_format_against_wfdb(tmp_path: Path, sample_format: str) -> None:
    stored = np.random.default_rng(1).integers(0, 256, 24 + 4 * DIGITAL.size, dtype=np.uint8)
    if sample_format == "311":
        stored[27::4] &= 0x3F  # the two bits beyond three samples, of which wfdb takes one for a sample's
    path = write_record(tmp_path, signal=f"rec.mat {sample_format}+24 1000/mV 16 0 5 0 0", samples=stored.tobytes())
    np.testing.assert_array_equal(open_recording(path).ecg_mv, wfdb.rdrecord(path).p_signal.T)


def test_missing_files(tmp_path: Path) -> None:
    path = write_record(tmp_path)
    (tmp_path / "rec.mat").unlink()
    assert refusal(path).code == "missing"
    (tmp_path / "folder.hea").mkdir()
    assert not is_wfdb(Source(str(tmp_path / "folder")))


def test_urls_are_never_followed(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_network(*_: object) -> None:
        raise AssertionError("a socket was opened")

    monkeypatch.setattr(socket, "socket", no_network)
    for path in ("https://physionet.org/files/mitdb/1.0.0/100", "s3://bucket/100", "mitdb/100", "file:///100"):
        assert refusal(path).code == "missing"


def test_a_link_out_of_the_header_s_folder(tmp_path: Path) -> None:
    """Of a name that stands in the header alone; a record's own files may be links, as DataLad lays them out."""
    elsewhere, folder = tmp_path / "elsewhere", tmp_path / "folder"
    elsewhere.mkdir()
    folder.mkdir()
    path = write_record(folder, signal="other.mat 16+24 1000/mV 16 0 0 0 0")
    (folder / "rec.mat").rename(elsewhere / "secret.mat")
    (folder / "other.mat").symlink_to(elsewhere / "secret.mat")
    assert refusal(path).code == "outside_root"
    (elsewhere / "secret.mat").rename(folder / "samples")
    (folder / "other.mat").unlink()
    (folder / "other.mat").symlink_to("samples")
    np.testing.assert_array_equal(open_recording(path).ecg_mv, DIGITAL.T / 1000)
    # A header and its samples, both linked from one folder.
    (elsewhere / "linked.hea").symlink_to(folder / "rec.hea")
    (elsewhere / "other.mat").symlink_to(folder / "other.mat")
    np.testing.assert_array_equal(open_recording(str(elsewhere / "linked")).ecg_mv, DIGITAL.T / 1000)
    path = write_record(folder)
    (folder / "rec.mat").rename(elsewhere / "annexed")
    (folder / "rec.mat").symlink_to(elsewhere / "annexed")
    np.testing.assert_array_equal(open_recording(path).ecg_mv, DIGITAL.T / 1000)


def with_checksums(folder: Path, change: int = 0, **options: Any) -> str:
    """A record whose header has the sum of each lead's samples; that of V6 is off by `change`."""
    path = write_record(folder, **options)
    lines = (folder / "rec.hea").read_text().splitlines()
    sums = DIGITAL.sum(axis=0, dtype=int) + change * (np.arange(12) == 11)
    signals = [
        f"{line.rsplit(maxsplit=3)[0]} {total % 65536 if row % 2 else (total + 32768) % 65536 - 32768} 0 {LEADS[row]}"
        for row, (line, total) in enumerate(zip(lines[1:13], sums, strict=True))
    ]
    (folder / "rec.hea").write_text("\n".join([lines[0], *signals]))
    return path


def test_checksums(tmp_path: Path) -> None:
    np.testing.assert_array_equal(open_recording(with_checksums(tmp_path)).ecg_mv, DIGITAL.T / 1000)
    error = refusal(with_checksums(tmp_path, change=7))
    right = int(DIGITAL[:, 11].sum(dtype=int)) % 65536
    assert error.code == "malformed"
    for word in ("Signal 12", "V6", str(right), str((right + 7) % 65536)):
        assert word in error.detail
    # Where the length is not stated, nobody knows what the sum was made of; 0 stands for none.
    open_recording(with_checksums(tmp_path, change=7, record_line="rec 12 500"))
    open_recording(with_checksums(tmp_path, change=-int(DIGITAL[:, 11].sum(dtype=int))))
    # Signals moved against one another lose samples at one end.
    open_recording(with_checksums(tmp_path, change=7, signal="rec.mat 16:1+24 1000/mV 16 0 0 0 0"))


def test_every_real_record_has_its_checksums(shared: Path) -> None:
    paths = sorted((shared / "data" / "wfdb").rglob("*.hea"))
    assert len(paths) > 300
    for path in paths:
        open_recording(str(path))


def test_leads_that_the_header_leaves_unsaid(shared: Path, tmp_path: Path) -> None:
    case = shared / "cases" / "W07" / "no_names"
    assert refusal(case).code == "leads"
    spans = json.loads((case.parent / "expected.json").read_text())["expected"]["peak_to_peak_mv"]
    for extension in (".hea", ".dat"):
        (tmp_path / f"no_names{extension}").write_bytes(case.with_suffix(extension).read_bytes())
    by_flag = open_recording(case, Signal(leads=tuple(spans)))
    (tmp_path / "no_names.json").write_text(json.dumps({"leads": list(spans)}))
    for recording in (by_flag, open_recording(tmp_path / "no_names")):
        assert recording.leads == tuple(spans)
        np.testing.assert_allclose(np.ptp(recording.ecg_mv, axis=1), list(spans.values()), atol=0.006)
    assert refusal(case, Signal(leads=("I", "II"))).code == "leads"


def test_a_sampling_rate_that_the_header_leaves_unsaid(tmp_path: Path) -> None:
    path = write_record(tmp_path, record_line="rec 12")
    assert refusal(path).code == "sampling_rate"
    assert open_recording(path, Signal(sampling_rate_hz=400)).sampling_rate_hz == 400
