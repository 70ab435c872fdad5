"""Where shards are written: in this process, in several of this machine, or by Apache Beam.

The processes read recordings themselves and may die of one: `recordings.isolation` limits their time and memory. The
shard is then done again, and the recording at which its process died is read apart from it.
"""

import io
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import islice
from multiprocessing.connection import Connection, wait
from threading import Thread
from typing import Any

from absl import logging
from tqdm import tqdm

from keras_ecg_mae.config import LOCAL, Cohort
from keras_ecg_mae.dataset.shards import ShardTask
from keras_ecg_mae.errors import DatasetError
from keras_ecg_mae.recordings import isolation

# What is done with a task, a function of a module; it calls the function it is given after each recording.
Step = Callable[[ShardTask, Callable[[], object]], None]

# A process takes a second or two to start; about so many recordings are read meanwhile.
_WORTH_A_POOL = 1000
_POLL_S = 0.2
_VARIABLES = {
    # One process a core is enough: NumPy's matrix products would start as many threads in each.
    **{f"{library}_NUM_THREADS": "1" for library in ("OPENBLAS", "OMP", "MKL")},
    **isolation.ENVIRONMENT,
}
_BAR_INTERVAL_S, _LINE_INTERVAL_S = 0.1, 30.0
_LINE = "{desc}: {n_fmt} of {total_fmt} recordings ({percentage:.0f}%), {rate_fmt}, {remaining} left"


def run_tasks(
    step: Step,
    tasks: Iterable[ShardTask],
    cohort: Cohort,
    runner_arguments: Sequence[str],
    *,
    total: int,
    done: int = 0,
) -> None:
    """Does a step with each task, where `cohort.runner` says.

    Args:
        step: what to do.
        tasks: taken as they are needed, so that memory does not grow with their number.
        cohort: how many processes of this machine, or which runner.
        runner_arguments: pipeline options of Apache Beam.
        total: recordings of all tasks, those included that were done before.
        done: recordings of these.

    Raises:
        DatasetError: a step raised it, or a process died of something else than a recording.
    """
    if done == total:
        return
    if cohort.runner != LOCAL:
        from keras_ecg_mae.dataset.beam_pipeline import run_in_beam

        run_in_beam(step, tasks, cohort.output.rstrip("/"), cohort.runner, runner_arguments)
        return
    processes = cohort.workers or (len(os.sched_getaffinity(0)) if total - done >= _WORTH_A_POOL else 1)
    with _progress_bar(total, done) as bar:
        # A few are read apart from this process, which costs more a recording than a pool and starts sooner.
        if processes == 1 and total - done < _WORTH_A_POOL:
            for task in tasks:
                step(task, bar.update)
        else:
            _run_in_pool(step, iter(tasks), processes, lambda now: bar.update(done + now - bar.n))


def _run_in_pool(step: Step, tasks: Iterator[ShardTask], processes: int, show: Callable[[int], object]) -> None:
    """Does a step with each task in so many processes; `show` is told several times a second how many are done."""
    workers: list[_Worker] = []
    done = 0
    with _environment(_VARIABLES):
        try:
            workers += [_Worker(step, task) for task in islice(tasks, processes)]
            while busy := {worker.connection: worker for worker in workers if worker.task is not None}:
                for connection in wait(list(busy), _POLL_S):
                    worker = busy[connection]  # type: ignore[index]  # only connections are waited for
                    try:
                        error = worker.connection.recv()
                    except (EOFError, OSError):
                        workers[workers.index(worker)] = _Worker(step, _task_after_death(worker))
                        continue
                    if error is not None:
                        raise error
                    done += len(worker.task or ())
                    worker.give(next(tasks, None))
                show(done + sum(worker.place for worker in workers if worker.task is not None))
        finally:
            for worker in workers:
                worker.end()


class _Worker:
    """A process of the pool, its task, and the place of the recording in the task that it is at."""

    def __init__(self, step: Step, task: ShardTask):
        # The libraries run threads, which do not survive a fork.
        context = multiprocessing.get_context("spawn")
        self.task: ShardTask | None = None
        self._done = context.RawValue("q", 0)
        self.connection, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(step, theirs, self._done), daemon=True)
        self._process.start()
        theirs.close()
        self.give(task)

    @property
    def place(self) -> int:
        return int(self._done.value)

    def give(self, task: ShardTask | None) -> None:
        self.task, self._done.value = task, 0
        if task is not None:
            with suppress(OSError):  # a process that has died is noticed where its answer is waited for
                self.connection.send(task)

    def end(self) -> int:
        """Ends the process. Returns its exit status."""
        self.connection.close()
        if self.task is not None:
            self._process.terminate()
        self._process.join()
        return self._process.exitcode or 0


def _task_after_death(worker: _Worker) -> ShardTask:
    """What is left to do of a process that has died. Raises `DatasetError` where no recording was the cause."""
    task, worker.task = worker.task, None
    killed = worker.end() == -signal.SIGKILL  # by the system, when memory runs out
    again = None if killed or task is None else task.suspecting(worker.place)
    if again is None:
        raise DatasetError(
            "Expected every process of prepare to live until its end. Received the death of one, as when memory runs "
            "out: try fewer --workers. The same command goes on with what is finished."
        )
    return again


def _serve(step: Step, connection: Connection, done: Any) -> None:
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


class _LogLines(io.StringIO):
    """Where tqdm writes when nobody watches: each state of its bar becomes a line of the log."""

    def write(self, text: str) -> int:
        line = text.strip("\r\n ")
        if line:
            logging.info("%s", line)
        return len(text)


def _progress_bar(total: int, done: int) -> "tqdm":
    """A bar in a terminal, a line every half minute in a log; its rate is of what is done from now on."""
    if sys.stderr.isatty():
        shown: dict[str, Any] = {"unit": " recordings", "mininterval": _BAR_INTERVAL_S}
    else:
        interval = {"mininterval": _LINE_INTERVAL_S, "maxinterval": _LINE_INTERVAL_S}
        shown = {"unit": "", "bar_format": _LINE, "file": _LogLines(), **interval}
    return tqdm(total=total, initial=done, desc="prepare", **shown)
