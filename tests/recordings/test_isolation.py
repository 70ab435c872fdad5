"""What a file does to the process that reads it, and that the one that asked goes on."""

import multiprocessing
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from keras_ecg_mae import spec
from keras_ecg_mae.config import Signal
from keras_ecg_mae.errors import RecordingError
from keras_ecg_mae.recordings import isolation, open_recording
from keras_ecg_mae.recordings.isolation import open_isolated
from tests.planted import FAULTS, plant, planted_file

ECG_MV = np.random.default_rng(0).normal(size=(12, 50)).round(3)
SAID = Signal(sampling_rate_hz=400, unit="mV", leads=spec.LEADS)


@pytest.fixture
def ecg(tmp_path: Path) -> Path:
    np.save(tmp_path / "ecg.npy", ECG_MV)
    return tmp_path / "ecg.npy"


@pytest.fixture
def new_readers() -> Iterator[None]:
    """Readers that a test starts, and which know what it plants, serve no other test."""
    isolation._end_readers()
    yield
    isolation._end_readers()


@pytest.mark.slow  # each fault ends processes, which take a second to start
@pytest.mark.parametrize(("fault", "code"), [*FAULTS.items(), ("error", "malformed")])
def test_a_fault_costs_its_own_recording(
    tmp_path: Path, ecg: Path, monkeypatch: pytest.MonkeyPatch, new_readers: None, fault: str, code: str
) -> None:
    monkeypatch.syspath_prepend(plant(tmp_path / "planted"))
    for _ in range(2):  # in a process that has read another file, and in a new one
        np.testing.assert_array_equal(open_isolated(ecg, SAID).ecg_mv, ECG_MV)
        with pytest.raises(RecordingError) as caught:
            open_isolated(planted_file(tmp_path / "file", fault), SAID)
        assert caught.value.code == code
        assert "Jane" not in caught.value.detail
    np.testing.assert_array_equal(open_isolated(ecg, SAID).ecg_mv, ECG_MV)


def test_refusals_and_recordings_are_those_of_open_recording(tmp_path: Path, ecg: Path) -> None:
    apart, here = open_isolated(ecg, SAID), open_recording(ecg, SAID)
    assert (apart.leads, apart.format, apart.path) == (here.leads, here.format, here.path)
    for path in (tmp_path / "none", ecg):
        errors = []
        for read in (open_isolated, open_recording):
            with pytest.raises(RecordingError) as caught:
                read(path)
            errors.append((caught.value.path, caught.value.code, caught.value.detail))
        assert errors[0] == errors[1]


def read_in_a_fork(path: str) -> float:
    return float(open_isolated(path, SAID).ecg_mv[0, 0])


def test_a_fork_does_not_ask_its_parent_s_process(ecg: Path) -> None:
    open_isolated(ecg, SAID)
    before = [reader.program.pid for reader in isolation._State.idle]
    with multiprocessing.get_context("fork").Pool(2) as pool:
        assert pool.map(read_in_a_fork, [str(ecg)] * 4) == [ECG_MV[0, 0]] * 4
    np.testing.assert_array_equal(open_isolated(ecg, SAID).ecg_mv, ECG_MV)
    assert [reader.program.pid for reader in isolation._State.idle] == before


def test_threads_read_at_once(tmp_path: Path) -> None:
    paths = [tmp_path / f"{number}.npy" for number in range(3)]
    for number, path in enumerate(paths):
        np.save(path, ECG_MV + number)
    wrong = []

    def read_all() -> None:
        for _ in range(10):
            for number, path in enumerate(paths):
                if not np.array_equal(open_isolated(path, SAID).ecg_mv, ECG_MV + number):
                    wrong.append(number)

    threads = [threading.Thread(target=read_all) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_a_script_without_a_main_guard_and_nothing_left_running(tmp_path: Path, ecg: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "from keras_ecg_mae.recordings import isolation\n"
        "from keras_ecg_mae.config import Signal\n"
        "from keras_ecg_mae import spec\n"
        f"isolation.open_isolated({str(ecg)!r}, Signal(sampling_rate_hz=400, unit='mV', leads=spec.LEADS))\n"
        "print(isolation._State.idle[0].program.pid)\n"
    )
    done = subprocess.run([sys.executable, "-W", "error", script], capture_output=True, text=True, check=True)
    assert done.stderr == ""
    assert not Path(f"/proc/{done.stdout.strip()}").exists()


def test_a_relative_path_is_of_the_folder_that_the_caller_is_in(
    tmp_path: Path, ecg: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_isolated(ecg, SAID)  # a process has started where the caller was
    monkeypatch.chdir(tmp_path)
    assert open_isolated(ecg.name, SAID).path == ecg.name
