"""The one boundary for files of unknown origin: they are read in a process that may die of them.

A damaged or hostile file may crash a library, keep it busy for ever or take all memory. `open_isolated` reads in a
disposable process with limits on time and memory, so that such a file costs its own recording alone. The process is a
program of its own: it has the libraries that read files, and not the caller's TensorFlow, threads or `__main__`.
"""

import atexit
import os
import resource
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection, Pipe
from typing import ClassVar

from keras_ecg_mae.config import Signal
from keras_ecg_mae.errors import RecordingError
from keras_ecg_mae.recordings.open import open_recording
from keras_ecg_mae.recordings.recording import Recording

# A 12-lead ECG takes milliseconds and some MB.
PROCESSOR_S = 5
# A file on a stalled network disk takes no processor time.
WAITING_S = 20
MEMORY_BYTES = 1 << 30
ENVIRONMENT = {
    "OPENBLAS_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    "HDF5_PLUGIN_PRELOAD": "::",  # HDF5 loads no code that a file names
    # Recording after recording takes and frees the same few megabytes. The C library gives them back to the system each
    # time unless it is told to keep some: four hundred page faults a recording, a quarter of its time.
    "MALLOC_TRIM_THRESHOLD_": str(256 << 20),
    "MALLOC_MMAP_THRESHOLD_": str(64 << 20),
}
_PROGRAM = "import sys; from keras_ecg_mae.recordings.isolation import serve; serve(int(sys.argv[1]))"
_TIME_IS_UP = (signal.SIGPROF, signal.SIGALRM)


def open_isolated(path: str | os.PathLike[str], settings: Signal | None = None, *, apart: bool = False) -> Recording:
    """As `open_recording`, in a disposable process with limits on time and memory.

    Args:
        path: as `open_recording` takes it.
        settings: sampling rate, unit and leads of files that do not state theirs.
        apart: whether to read in another process even where this one is disposable.

    Raises:
        RecordingError: as `open_recording`; or the file ends the process that reads it (`malformed`), or takes more
            than 5 s of processor time, 20 s in all or 1 GB (`too_long`).
    """
    path, settings = os.fspath(path), settings or Signal()
    if _State.disposable and not apart:
        with time_limit():
            return open_recording(path, settings)
    status = 0
    for _ in range(2):
        reader = _State.take()
        used = reader.used
        try:
            answer = reader.ask(path, settings)
        except (EOFError, OSError):
            status = reader.end()
            if used:  # an earlier file may have harmed it: this one is tried in a new process
                continue
            break
        except BaseException:  # an interrupt: its answer must not be taken for the next file's
            reader.end()
            raise
        _State.idle.append(reader)
        if isinstance(answer, RecordingError):
            raise answer
        return answer
    if -status in _TIME_IS_UP:
        raise RecordingError(
            path,
            "too_long",
            f"Reading the file takes more than {PROCESSOR_S} s of processor time or {WAITING_S} s in all. "
            "Cut a long recording into pieces.",
        )
    if status >= 0 or -status in (signal.SIGKILL, signal.SIGTERM):
        raise RuntimeError(f"Expected a process that reads recordings. Received its exit status {status}.")
    raise RecordingError(path, "malformed", "The file is damaged: it ends the process that reads it.")


class _Reader:
    """A disposable process. `used` tells whether it has read a file."""

    def __init__(self) -> None:
        self.connection, theirs = Pipe()
        environment = (
            os.environ | ENVIRONMENT | {"PYTHONPATH": os.pathsep.join(folder for folder in sys.path if folder)}
        )
        self.used = False
        # In a session of its own, so that an interrupt from the keyboard reaches its parent alone.
        self.program = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-c", _PROGRAM, str(theirs.fileno())],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            pass_fds=[theirs.fileno()],
            env=environment,
            start_new_session=True,
        )
        theirs.close()

    def ask(self, path: str, settings: Signal) -> Recording | RecordingError:
        """What the process makes of a file. Raises `EOFError` or `OSError` where it has died."""
        # A relative path is of the folder that the caller is in now.
        self.connection.send((path, settings, os.getcwd()))
        answer: Recording | RecordingError = self.connection.recv()
        self.used = True
        return answer

    def end(self) -> int:
        """Ends the process where it has not ended. Returns its exit status, negative for a signal's number."""
        self.connection.close()
        try:
            return self.program.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self.program.kill()
            return self.program.wait()


class _State:
    """What this process knows of its readers, and whether it is one itself."""

    lock = threading.Lock()
    idle: ClassVar[list[_Reader]] = []
    of_parent: ClassVar[list[_Reader]] = []
    disposable = False

    @classmethod
    def take(cls) -> _Reader:
        with cls.lock:
            return cls.idle.pop() if cls.idle else _Reader()


@atexit.register
def _end_readers() -> None:
    while _State.idle:
        _State.idle.pop().end()


def _forget_readers() -> None:
    # Kept, since Popen complains of children that are collected while they run.
    _State.lock, _State.of_parent, _State.idle = threading.Lock(), _State.of_parent + _State.idle, []


os.register_at_fork(after_in_child=_forget_readers)


def become_disposable() -> None:
    """Makes this process one that may die of a file: `open_isolated` reads here, and memory is limited.

    The process's owner sees to what follows from its death.
    """
    _State.disposable = True
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform == "linux":
        with open("/proc/self/status", encoding="ascii") as status:
            kilobytes = next(int(line.split()[1]) for line in status if line.startswith("VmData"))
        _, hard = resource.getrlimit(resource.RLIMIT_DATA)
        wanted = (kilobytes << 10) + MEMORY_BYTES
        resource.setrlimit(
            resource.RLIMIT_DATA, (wanted if hard == resource.RLIM_INFINITY else min(wanted, hard), hard)
        )


@contextmanager
def time_limit() -> Iterator[None]:
    """Ends this process by SIGPROF or SIGALRM, in whatever code it is, where the block takes too long."""
    signal.setitimer(signal.ITIMER_PROF, PROCESSOR_S)
    signal.setitimer(signal.ITIMER_REAL, WAITING_S)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.setitimer(signal.ITIMER_REAL, 0)


def serve(descriptor: int) -> None:
    """Reads the files that come through a connection until it is closed."""
    become_disposable()
    with Connection(descriptor) as connection:
        while True:
            try:
                path, settings, folder = connection.recv()
            except EOFError:
                return
            os.chdir(folder)
            try:
                connection.send(open_isolated(path, settings))
            except RecordingError as error:
                connection.send(error)
