"""What a library does to its process, and that the one that asked goes on."""

import multiprocessing
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import h5py
import numpy as np
import pytest

from keras_ecg_mae import spec
from keras_ecg_mae.config import Signal
from keras_ecg_mae.errors import RecordingError
from keras_ecg_mae.recordings import isolated_file, open_recording

ECG_MV = np.random.default_rng(0).normal(size=(12, 50)).round(3)
SAID = Signal(sampling_rate_hz=400, unit="mV", leads=spec.LEADS)


def written(path: Path, ecg: np.ndarray = ECG_MV) -> Path:
    with h5py.File(path, "w") as file:
        file["ecg"] = ecg
    return path


def reading_process() -> int:
    return isolated_file._Shared.processes["hdf5"].program.pid


def workers(program: int) -> list[int]:
    return [int(pid) for pid in Path(f"/proc/{program}/task/{program}/children").read_text().split()]


def test_a_process_that_died_between_two_files_is_replaced(tmp_path: Path) -> None:
    path = written(tmp_path / "ecg.h5")
    open_recording(path, SAID)
    before = reading_process()
    os.killpg(before, signal.SIGKILL)
    np.testing.assert_array_equal(open_recording(path, SAID).ecg_mv, ECG_MV)
    assert reading_process() != before


@pytest.mark.parametrize(
    ("ended", "detail"), [(signal.SIGSEGV, "ends its process"), (signal.SIGXCPU, "in 4 s"), (signal.SIGALRM, "in 4 s")]
)
def test_a_worker_that_dies_of_each_file_is_not_replaced_forever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ended: signal.Signals, detail: str
) -> None:
    """Ended as the library or the kernel would end it, when it has been asked for the samples."""
    path = written(tmp_path / "ecg.h5")
    open_recording(path, SAID)
    original, asked = isolated_file.IsolatedProcess.ask, []

    def ask(self: isolated_file.IsolatedProcess, question: dict[str, object]) -> tuple[dict[str, object], bytes]:
        if "read" in question:
            asked.append(self.program.pid)
            os.kill(workers(self.program.pid)[0], ended)
        return original(self, question)

    with monkeypatch.context() as patched:
        patched.setattr(isolated_file.IsolatedProcess, "ask", ask)
        with pytest.raises(RecordingError) as caught:
            open_recording(path, SAID)
    assert caught.value.code == "malformed"
    assert detail in caught.value.detail
    # Once where an earlier file may have harmed it, once in a process that has read no other.
    assert len(set(asked)) == len(asked) == 2
    np.testing.assert_array_equal(open_recording(path, SAID).ecg_mv, ECG_MV)


def test_a_file_that_its_library_refuses_ends_the_worker_alone(tmp_path: Path) -> None:
    path = written(tmp_path / "ecg.h5")
    open_recording(path, SAID)
    program, worker = reading_process(), workers(reading_process())
    (tmp_path / "damaged.h5").write_bytes(path.read_bytes()[:100])
    with pytest.raises(RecordingError):
        open_recording(tmp_path / "damaged.h5", SAID)
    np.testing.assert_array_equal(open_recording(path, SAID).ecg_mv, ECG_MV)
    assert reading_process() == program
    assert workers(program) != worker


def test_an_interrupt_leaves_no_answer_for_the_next_question(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, other = written(tmp_path / "ecg.h5"), written(tmp_path / "other.h5", 2 * ECG_MV)

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("json.loads", interrupted)
        with pytest.raises(KeyboardInterrupt):
            open_recording(path, SAID)
    np.testing.assert_array_equal(open_recording(other, SAID).ecg_mv, 2 * ECG_MV)


def read_in_a_fork(path: str) -> float:
    return float(open_recording(path, SAID).ecg_mv[0, 0])


def test_a_fork_does_not_ask_its_parent_s_process(tmp_path: Path) -> None:
    path = written(tmp_path / "ecg.h5")
    open_recording(path, SAID)
    before = reading_process()
    with multiprocessing.get_context("fork").Pool(2) as pool:
        assert pool.map(read_in_a_fork, [str(path)] * 8) == [ECG_MV[0, 0]] * 8
    np.testing.assert_array_equal(open_recording(path, SAID).ecg_mv, ECG_MV)
    assert reading_process() == before


def test_threads_read_at_once(tmp_path: Path) -> None:
    paths = [written(tmp_path / f"{number}.h5", ECG_MV + number) for number in range(4)]
    wrong = []

    def read_all() -> None:
        for _ in range(10):
            for number, path in enumerate(paths):
                if not np.array_equal(open_recording(path, SAID).ecg_mv, ECG_MV + number):
                    wrong.append(number)

    threads = [threading.Thread(target=read_all) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_nothing_is_left_running(tmp_path: Path) -> None:
    path = written(tmp_path / "ecg.h5")
    program = (
        "from keras_ecg_mae.recordings import open_recording, isolated_file\n"
        "from keras_ecg_mae.config import Signal\n"
        "from keras_ecg_mae import spec\n"
        f"open_recording({str(path)!r}, Signal(sampling_rate_hz=400, unit='mV', leads=spec.LEADS))\n"
        "print(isolated_file._Shared.processes['hdf5'].program.pid)\n"
    )
    done = subprocess.run([sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, check=True)
    assert done.stderr == ""
    assert not Path(f"/proc/{done.stdout.strip()}").exists()
