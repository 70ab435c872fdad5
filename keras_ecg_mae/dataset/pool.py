"""Working on many shards at once, one a process at a time.

The processes read recordings themselves and may die of one: `recordings.isolation` limits their time and memory. The
shard is then done again, and the recording at which its process died is read apart from it.
"""

import multiprocessing
import os
import signal
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection, wait
from threading import Thread
from typing import Any, Protocol, TypeVar

from keras_ecg_mae.errors import DatasetError
from keras_ecg_mae.recordings import isolation


class Divisible(Protocol):
    """A task of several recordings."""

    def __len__(self) -> int: ...

    def suspecting(self, position: int) -> "Divisible | None":
        """The task again, after its process died at a recording; None where that recording cannot be the cause."""


Task = TypeVar("Task", bound=Divisible)
# What is done with a task; it calls the function it is given after each recording.
Step = Callable[[Task, Callable[[], object]], None]
_POLL_S = 0.2
_VARIABLES = {
    # One process a core is enough: NumPy's matrix products would start as many threads in each.
    **{f"{library}_NUM_THREADS": "1" for library in ("OPENBLAS", "OMP", "MKL")},
    **isolation.ENVIRONMENT,
}
_DIED = (
    "Expected every process of prepare to live until its end. Received the death of one, as when memory runs out: try "
    "fewer --workers. The same command goes on with what is finished."
)


class _Worker:
    """A process of the pool, its task, and how many of the task's recordings are done."""

    def __init__(self, step: Step[Any]):
        # The libraries run threads, which do not survive a fork.
        context = multiprocessing.get_context("spawn")
        self.task: Any = None
        self._done = context.RawValue("q", 0)
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(step, theirs, self._done), daemon=True)
        self.process.start()
        theirs.close()

    @property
    def position(self) -> int:
        return int(self._done.value)

    def give(self, task: Any) -> None:
        self.task, self._done.value = task, 0
        with suppress(OSError):  # a process that has died is noticed where its answer is waited for
            self.connection.send(task)

    def end(self) -> int:
        """Ends the process. Returns its exit status."""
        self.connection.close()
        if self.task is not None:
            self.process.terminate()
        self.process.join()
        return self.process.exitcode or 0


def work_in_pool(step: Step[Task], tasks: Iterable[Task], processes: int, show: Callable[[int], object]) -> None:
    """Does a step with each task in a pool of processes.

    Args:
        step: a function of a module.
        tasks: taken as they are needed, so that memory does not grow with their number.
        processes: how many work at once.
        show: called several times a second with the number of recordings done so far.

    Raises:
        DatasetError: a step raised it, or a process died of something else than a recording.
    """
    remaining, workers, done = iter(tasks), [], 0
    with _environment(_VARIABLES):
        try:
            for task in remaining:
                workers.append(_Worker(step))
                workers[-1].give(task)
                if len(workers) == processes:
                    break
            while busy := {worker.connection: worker for worker in workers if worker.task is not None}:
                for connection in wait(list(busy), _POLL_S):
                    worker = busy[connection]  # type: ignore[index]  # only connections are waited for
                    try:
                        error = worker.connection.recv()
                    except (EOFError, OSError):
                        workers[workers.index(worker)] = _after_death(worker, step)
                        continue
                    if error is not None:
                        raise error
                    done, worker.task = done + len(worker.task), None
                    if (following := next(remaining, None)) is not None:
                        worker.give(following)
                show(done + sum(worker.position for worker in workers if worker.task is not None))
        finally:
            for worker in workers:
                worker.end()


def _after_death(worker: _Worker, step: Step[Any]) -> _Worker:
    """A new process with the task of one that has died. Raises `DatasetError` where no recording was the cause."""
    task, position = worker.task, worker.position
    worker.task = None
    # SIGKILL is the system's, when memory runs out.
    again = None if worker.end() == -signal.SIGKILL or position >= len(task) else task.suspecting(position)
    if again is None:
        raise DatasetError(_DIED)
    new = _Worker(step)
    new.give(again)
    return new


@contextmanager
def _environment(variables: dict[str, str]) -> Iterator[None]:
    """Environment variables for the processes that are started meanwhile; those that are set already stay."""
    new = {name: value for name, value in variables.items() if name not in os.environ}
    os.environ.update(new)
    try:
        yield
    finally:
        for name in new:
            del os.environ[name]


def _serve(step: Step[Any], connection: Connection, done: Any) -> None:
    """Works on the tasks that come until the connection is closed.

    Answers None after each, or the error that ended it, and counts in `done` the recordings of the present one.
    """

    def advance() -> None:
        done.value += 1

    # An interrupt from the keyboard reaches every process; the one that started the pool tells the others to stop.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _interrupt)
    Thread(target=_die_with_parent, daemon=True).start()
    isolation.become_disposable()
    with suppress(EOFError, KeyboardInterrupt):
        while True:
            task = connection.recv()
            try:
                step(task, advance)
                connection.send(None)
            except Exception as error:
                connection.send(error)


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def _die_with_parent() -> None:
    """Ends this process when the one that started it was killed: nobody would give it work, or tell it to stop."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
