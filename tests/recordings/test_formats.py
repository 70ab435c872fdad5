"""What every reader promises, for every format of the table: a format that is added without a file fails here."""

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from keras_ecg_mae import spec
from keras_ecg_mae.errors import RecordingError
from keras_ecg_mae.recordings import Recording, open_recording
from keras_ecg_mae.recordings.isolation import open_isolated
from keras_ecg_mae.recordings.leads_and_units import lead_names
from keras_ecg_mae.recordings.open import FORMATS
from tests.recordings.conftest import element_mutations, mutations
from tests.recordings.files import BOMBS, ECG_UV, FILES, PLANTED, RATE_HZ, SAID, TRACES, Files

KEYS = [known.key for known in FORMATS]
every_format = pytest.mark.parametrize("key", KEYS)


def write(folder: Path, files: Files) -> Path:
    """Writes a recording's files. Returns the one to open."""
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return folder / next(iter(files))


def attempt(path: Path) -> Recording | RecordingError:
    """A recording of a file of unknown origin, or why there is none; no message quotes the patient."""
    recording: Recording | RecordingError
    try:
        recording = open_isolated(path, SAID)
    except RecordingError as error:
        recording = error
    if isinstance(recording, RecordingError):
        assert not any(trace.lower() in recording.detail.lower() for trace in TRACES), recording.detail
        return recording
    assert not any(trace in lead for trace in TRACES for lead in recording.leads)
    assert recording.ecg_mv.dtype == np.float64
    assert recording.ecg_mv.shape[0] == len(recording.leads)
    return recording


def assert_is_the_ecg(recording: Recording, key: str) -> None:
    assert recording.format == key
    assert lead_names(recording.leads) == spec.LEADS
    assert recording.sampling_rate_hz == RATE_HZ
    np.testing.assert_allclose(recording.ecg_mv, ECG_UV / 1000, rtol=0, atol=1e-9)


def test_every_format_has_a_file() -> None:
    assert list(FILES) == KEYS


@every_format
def test_opened_by_whatever_name(tmp_path: Path, key: str) -> None:
    files = FILES[key]()
    path = write(tmp_path, files)
    link = tmp_path / f"link{path.suffix}"
    link.symlink_to(path)
    if len(files) > 1:  # a header names its files
        other = path.with_suffix("")
    else:
        other = tmp_path / "another.name"
        other.write_bytes(path.read_bytes())
    for name in (str(path), path, link, other, os.path.relpath(path)):
        recording = open_recording(name, SAID)
        assert_is_the_ecg(recording, key)
        assert recording.path == str(name)
    np.testing.assert_array_equal(open_recording(path, SAID).ecg_mv, open_recording(path, SAID).ecg_mv)
    assert_is_the_ecg(open_isolated(path, SAID), key)


@every_format
def test_what_is_no_such_file(tmp_path: Path, key: str) -> None:
    path = write(tmp_path, FILES[key]())
    path.write_bytes(b"")
    assert isinstance(attempt(path), RecordingError)
    path.unlink()
    path.mkdir()
    assert isinstance(attempt(path), RecordingError)


@every_format
def test_truncated_anywhere(tmp_path: Path, key: str) -> None:
    for name, content in FILES[key]().items():
        path = write(tmp_path, FILES[key]())
        places = np.random.default_rng(0).integers(len(content), size=40)
        for place in sorted({*places.tolist(), 1, len(content) - 1}):
            (tmp_path / name).write_bytes(content[:place])
            found = attempt(path)
            if isinstance(found, Recording):  # of formats that do not count their samples
                whole = ECG_UV[:, : found.ecg_mv.shape[1] - 1] / 1000  # a number may have lost its end
                np.testing.assert_allclose(found.ecg_mv[:, :-1], whole[: len(found.leads)], rtol=0, atol=1e-9)


def damaged(files: Files, count: int) -> Iterator[tuple[str, bytes]]:
    """Damaged versions of a recording's files, one file at a time; elements of XML are damaged as well."""
    for name, content in files.items():
        for version in mutations(content, count // len(files)):
            yield name, version
        if content.startswith(b"<"):
            for version in element_mutations(content, count // 2):
                yield name, version


def check_damaged(tmp_path: Path, key: str, count: int) -> None:
    files = FILES[key]()
    outcomes = {"read": 0, "refused": 0}
    for name, version in damaged(files, count):
        path = write(tmp_path, files | {name: version})
        outcomes["read" if isinstance(attempt(path), Recording) else "refused"] += 1
    assert outcomes["refused"], outcomes
    assert outcomes["read"] or key == "scp", outcomes  # whose checksums find all damage of what is read


@every_format
def test_some_damaged_files(tmp_path: Path, key: str) -> None:
    check_damaged(tmp_path, key, 100)


@pytest.mark.slow
@every_format
def test_two_thousand_damaged_files(tmp_path: Path, key: str) -> None:
    check_damaged(tmp_path, key, 2000)


@every_format
def test_identities_in_every_place(tmp_path: Path, key: str) -> None:
    """A name in place of any run of text, so that a reader that quotes what it does not understand is found."""
    files = FILES[key]()
    name, content = next(iter(files.items()))
    planted = PLANTED.encode()
    rng = np.random.default_rng(0)
    for place in rng.integers(min(len(content), 4096), size=60).tolist():
        for version in (
            content[:place] + planted + content[place + len(planted) :],
            content[:place] + planted + content[place:],
        ):
            attempt(write(tmp_path, files | {name: version}))


@pytest.mark.slow  # the memory and the seconds that a bomb may take are taken
@pytest.mark.parametrize("name", BOMBS)
def test_bombs_are_refused(tmp_path: Path, name: str) -> None:
    path = tmp_path / "bomb"
    path.write_bytes(BOMBS[name]())
    assert isinstance(attempt(path), RecordingError)
