"""Working on many shards at once, one a process at a time."""

import multiprocessing
import os
import signal
from collections.abc import Callable, Iterable, Iterator, Sized
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from threading import Thread
from typing import Any, TypeVar

from keras_ecg_mae.errors import DatasetError

Task = TypeVar("Task", bound=Sized)
# What is done with a task; it calls the function it is given after each recording.
Step = Callable[[Task, Callable[[], object]], None]
_POLL_S = 0.2
_VARIABLES = {
    # One process a core is enough: NumPy's matrix products would start as many threads in each.
    **{f"{library}_NUM_THREADS": "1" for library in ("OPENBLAS", "OMP", "MKL")},
    # Recording after recording takes and frees the same few megabytes. The C library gives them back to the system each
    # time unless it is told to keep some: four hundred page faults a recording, a quarter of its time.
    "MALLOC_TRIM_THRESHOLD_": str(256 << 20),
    "MALLOC_MMAP_THRESHOLD_": str(64 << 20),
}


class _Shared:
    """What a process of the pool shares with the one that started it."""

    done: Any = None
    stop: Any = None


def work_in_pool(step: Step[Task], tasks: Iterable[Task], processes: int, show: Callable[[int], object]) -> None:
    """Does a step with each task in a pool of processes.

    Args:
        step: a function of a module.
        tasks: taken as they are needed, so that memory does not grow with their number.
        processes: how many work at once.
        show: called several times a second with the number of recordings done so far.

    Raises:
        DatasetError: a step raised it, or a process died.
    """
    # The libraries run threads, which do not survive a fork.
    context = multiprocessing.get_context("spawn")
    done, stop = context.Value("q", 0), context.Event()
    unfinished: set[Future[None]] = set()
    with _environment(_VARIABLES), ProcessPoolExecutor(processes, context, _join, (done, stop)) as pool:
        try:
            for task in tasks:
                unfinished.add(pool.submit(_work, step, task))
                unfinished = _wait_until_fewer(unfinished, 2 * processes, lambda: show(done.value))
            _wait_until_fewer(unfinished, 1, lambda: show(done.value))
        except BrokenProcessPool as error:
            raise DatasetError(
                "Expected every process of prepare to live until its end. Received the death of one, as when memory "
                "runs out: try fewer --workers. The same command goes on with what is finished."
            ) from error
        except BaseException:
            stop.set()
            pool.shutdown(wait=True, cancel_futures=True)
            raise


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


def _wait_until_fewer(unfinished: set[Future[None]], limit: int, show: Callable[[], object]) -> set[Future[None]]:
    """Waits until fewer than `limit` are unfinished; raises what one of them raised."""
    while len(unfinished) >= limit:
        finished, unfinished = wait(unfinished, timeout=_POLL_S, return_when=FIRST_COMPLETED)
        for future in finished:
            future.result()
        show()
    return unfinished


def _join(done: Any, stop: Any) -> None:
    # An interrupt from the keyboard reaches every process; the one that started the pool tells the others to stop.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _Shared.done, _Shared.stop = done, stop
    Thread(target=_die_with_parent, daemon=True).start()


def _die_with_parent() -> None:
    """Ends this process when the one that started it was killed: nobody would give it work, or tell it to stop."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _advance() -> None:
    if _Shared.stop.is_set():
        raise KeyboardInterrupt
    with _Shared.done.get_lock():
        _Shared.done.value += 1


def _work(step: Step[Task], task: Task) -> None:
    step(task, _advance)
