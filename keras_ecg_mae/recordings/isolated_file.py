"""Files of arrays that are read in a process of their own, since damaged ones can end it: HDF5 and MATLAB."""

import atexit
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any, ClassVar, Literal

import numpy as np

from keras_ecg_mae.errors import RecordingError
from keras_ecg_mae.recordings import isolated_process
from keras_ecg_mae.recordings.formats.array_signal import StoredArray
from keras_ecg_mae.recordings.formats.known_names import SAYS
from keras_ecg_mae.recordings.formats.sidecar import Named

LONGEST_ANSWER = isolated_process.ANSWER_BYTES + 1024


class ProcessDiedError(Exception):
    """The process ended before it had answered, or answered nonsense.

    Args:
        status: its exit status: 0 after nonsense, `isolated_process.SIGNALLED` and more where a worker died.
    """

    def __init__(self, status: int):
        super().__init__(f"exit status {status}")
        self.status = status


class IsolatedProcess:
    """The program of `isolated_process.py`, running."""

    def __init__(self, file_format: str):
        environment = os.environ | {
            # It finds the libraries that this process finds.
            "PYTHONPATH": os.pathsep.join(folder for folder in sys.path if folder),
            "OPENBLAS_NUM_THREADS": "1",  # threads do not survive its fork
            "HDF5_PLUGIN_PRELOAD": "::",  # HDF5 loads no code that a file asks for
        }
        self.served = 0  # files since its worker began
        # In a session of its own, so that an interrupt from the keyboard reaches this process alone.
        self.program = subprocess.Popen(
            [sys.executable, "-W", "ignore", isolated_process.__file__, file_format],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment,
            start_new_session=True,
        )

    def ask(self, question: dict[str, Any]) -> tuple[dict[str, Any], bytes]:
        """The answer to a question, and the bytes that come with it.

        Raises:
            ProcessDiedError: there was none.
        """
        assert self.program.stdin is not None
        assert self.program.stdout is not None
        try:
            self.program.stdin.write(json.dumps(question).encode() + b"\n")
            self.program.stdin.flush()
            line = self.program.stdout.readline(LONGEST_ANSWER)
            if line.endswith(b"\n"):
                answer = json.loads(line)
                samples = self.program.stdout.read(answer.get("bytes", 0))
                if len(samples) == answer.get("bytes", 0):
                    self.served = 0 if answer["failed"] else self.served
                    return answer, samples
        except (OSError, ValueError, KeyError):  # its end of the pipe is closed; or what it says is no answer
            pass
        raise ProcessDiedError(self.end())

    def end(self) -> int:
        """Ends the program where it has not ended. Returns its exit status."""
        for pipe in (self.program.stdin, self.program.stdout):
            if pipe is not None:
                with suppress(OSError):  # a question that never reached it
                    pipe.close()
        try:
            return self.program.wait(timeout=5)
        except subprocess.TimeoutExpired:
            os.killpg(self.program.pid, signal.SIGKILL)
            return self.program.wait()


class _Shared:
    """The programs that this process has running, one a format, asked by one thread at a time."""

    lock = threading.Lock()
    processes: ClassVar[dict[str, IsolatedProcess]] = {}
    abandoned: ClassVar[list[IsolatedProcess]] = []


@atexit.register
def _end_all() -> None:
    while _Shared.processes:
        _Shared.processes.popitem()[1].end()


def _forget_after_fork() -> None:
    # They are the parent's. Kept, since Popen complains of children that are collected while they run.
    _Shared.lock = threading.Lock()
    _Shared.abandoned += _Shared.processes.values()
    _Shared.processes = {}


os.register_at_fork(after_in_child=_forget_after_fork)


class IsolatedFile:
    """A file that is open in the process of its format, and stays so through that process's death by another file.

    Args:
        path: as the user named it, for errors.
        file_format: the library that opens it: h5py or SciPy.
        opening: the question that opens it.
    """

    def __init__(self, path: str, file_format: str, opening: dict[str, Any]):
        self.path, self.file_format, self.opening = path, file_format, opening
        self.description, _ = self.ask(opening)

    def ask(self, question: dict[str, Any]) -> tuple[dict[str, Any], bytes]:
        """The answer to a question about the file, and the bytes that come with it.

        Raises:
            RecordingError: the library refuses the file, died of it, or took too much time or memory.
        """
        process = _Shared.processes.get(self.file_format)
        if process is None:
            process = _Shared.processes[self.file_format] = IsolatedProcess(self.file_format)
        try:
            answer, samples = process.ask(question)
        except ProcessDiedError as died:
            del _Shared.processes[self.file_format]
            if process.served == 0:
                raise self._death(died.status) from died
            # A file before this one may have harmed it.
            if question is not self.opening:
                self.ask(self.opening)
            return self.ask(question)
        if "refused" in answer:
            raise RecordingError(self.path, *answer["refused"])
        return answer, samples

    def read(self, name: str, row: int | None) -> np.ndarray:
        """An array of the file, or one record of it."""
        answer, samples = self.ask({"read": name, "row": row})
        return np.frombuffer(samples, answer["dtype"]).reshape(answer["shape"])

    def close(self) -> None:
        process = _Shared.processes.get(self.file_format)
        if process is not None:
            try:
                process.ask({"close": True})
                process.served += 1
            except ProcessDiedError:
                del _Shared.processes[self.file_format]

    def _death(self, status: int) -> Exception:
        library = {"hdf5": "HDF5", "matlab": "SciPy"}[self.file_format]
        if status < 0 or 0 < status < isolated_process.SIGNALLED:
            return RuntimeError(f"Expected a process that reads files by {library}. Received its exit status {status}.")
        if status - isolated_process.SIGNALLED in (signal.SIGXCPU, signal.SIGALRM):
            limit_s = isolated_process.WORKER_CPU_S + 1
            return RecordingError(
                self.path, "malformed", f"Expected a file that {library} reads in {limit_s} s. Received a slower one."
            )
        return RecordingError(
            self.path, "malformed", f"Expected a file that {library} can read. Received one that ends its process."
        )


@contextmanager
def open_isolated(
    path: str, file: str, file_format: Literal["hdf5", "matlab"], *, reversed_axes: bool = False
) -> Iterator[tuple[tuple[StoredArray, ...], tuple[Named, ...]]]:
    """Opens a file for as long as its arrays are read.

    Args:
        path: as the user named it, for errors.
        file: what to open.
        file_format: the library that opens it: h5py or SciPy.
        reversed_axes: an HDF5 file written by MATLAB, which counts axes from the other end.

    Yields:
        its arrays, and the values that it gives under well-known names.

    Raises:
        RecordingError: see `IsolatedFile.ask`.
    """
    try:
        open(file, "rb").close()
    except OSError as error:
        raise RecordingError(path, "missing", f"Expected a readable file. Received {error.strerror}.") from error
    except ValueError as error:  # a path with a null byte
        raise RecordingError(path, "missing", "Expected a file at this path. Received none.") from error
    opening = {"open": os.path.abspath(file), "matlab": reversed_axes, "known": list(SAYS)}
    with _Shared.lock:
        try:
            opened = IsolatedFile(path, file_format, opening)
            try:
                yield _described(opened)
            finally:
                opened.close()
        except RecordingError:
            raise
        except BaseException:  # an interrupt: what the process answers later is no answer to another question
            process = _Shared.processes.pop(file_format, None)
            if process is not None:
                process.end()
            raise


def _described(opened: IsolatedFile) -> tuple[tuple[StoredArray, ...], tuple[Named, ...]]:
    arrays = [
        StoredArray(name, tuple(shape), np.dtype(dtype), partial(opened.read, name))
        for name, shape, dtype in opened.description["arrays"]
    ]
    return tuple(arrays), tuple((owner, name, values) for owner, name, values in opened.description["named"])
