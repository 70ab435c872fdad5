"""Writing many shards at once, one a process at a time."""

import multiprocessing
import signal
from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from typing import Any

from keras_ecg_mae.dataset.shard import ShardResult, ShardTask, write_shard
from keras_ecg_mae.errors import DatasetError

_POLL_S = 0.2


class _Shared:
    """What a process of the pool shares with the one that started it."""

    done: Any = None
    stop: Any = None


def write_in_pool(tasks: Iterable[ShardTask], processes: int, show: Callable[[int], object]) -> list[ShardResult]:
    """Writes shards in a pool of processes.

    Args:
        tasks: the shards; taken as they are needed, so that memory does not grow with their number.
        processes: how many work at once.
        show: called several times a second with the number of recordings done so far.

    Returns:
        The results in the order of the tasks.

    Raises:
        DatasetError: a shard cannot be written, or a process died.
    """
    # TensorFlow runs threads, which do not survive a fork.
    context = multiprocessing.get_context("spawn")
    done, stop = context.Value("q", 0), context.Event()
    futures: list[Future[ShardResult]] = []
    unfinished: set[Future[ShardResult]] = set()
    with ProcessPoolExecutor(processes, context, _join, (done, stop)) as pool:
        try:
            for task in tasks:
                future = pool.submit(_write, task)
                futures.append(future)
                unfinished.add(future)
                unfinished = _wait_until_fewer(unfinished, 2 * processes, lambda: show(done.value))
            _wait_until_fewer(unfinished, 1, lambda: show(done.value))
        except BrokenProcessPool as error:
            raise DatasetError(
                "Expected every process of prepare to live until its end. Received the death of one, as when memory "
                "runs out: try fewer --workers."
            ) from error
        except BaseException:
            stop.set()
            pool.shutdown(wait=True, cancel_futures=True)
            raise
    return [future.result() for future in futures]


def _wait_until_fewer(
    unfinished: set[Future[ShardResult]], limit: int, show: Callable[[], object]
) -> set[Future[ShardResult]]:
    """Waits until fewer than `limit` are unfinished; raises what writing one of them raised."""
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


def _advance() -> None:
    if _Shared.stop.is_set():
        raise KeyboardInterrupt
    with _Shared.done.get_lock():
        _Shared.done.value += 1


def _write(task: ShardTask) -> ShardResult:
    return write_shard(task, _advance)
