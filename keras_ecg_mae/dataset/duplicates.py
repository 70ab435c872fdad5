"""Recordings whose stored samples are another's, found over the whole dataset by their checksums."""

import numpy as np

from keras_ecg_mae.dataset.plan import Plan
from keras_ecg_mae.dataset.shard import DIGEST_BYTES, RemovalTask
from keras_ecg_mae.dataset.shard_result import finished_result
from keras_ecg_mae.errors import DatasetError

DUPLICATE = "duplicate_signal"


def find_duplicates(folder: str, plans: list[Plan]) -> dict[int, int]:
    """The first recording with the same samples, by each later one; both as positions in the table.

    Args:
        folder: the dataset folder.
        plans: all its shards, which are written.
    """
    positions, digests = [], []
    for plan in plans:
        stored = finished_result(folder, plan.file).digests
        positions.append(plan.positions[[digest != "" for digest in stored]])
        digests.append(np.frombuffer(bytes.fromhex("".join(stored)), np.uint64))
    return first_with_same(np.concatenate(positions), np.concatenate(digests).reshape(-1, DIGEST_BYTES // 8))


def first_with_same(positions: np.ndarray, digests: np.ndarray) -> dict[int, int]:
    """The smallest position with the same digest, by each other position.

    Args:
        positions: `(recordings,)`, in any order.
        digests: `(recordings, 2)` uint64.
    """
    order = np.lexsort((positions, digests[:, 1], digests[:, 0]))
    same = np.zeros(len(order), bool)
    same[1:] = np.all(digests[order[1:]] == digests[order[:-1]], axis=1)
    # The place in `order` where each run of equal digests begins.
    first = np.maximum.accumulate(np.where(same, 0, np.arange(len(order))))
    return dict(zip(positions[order[same]].tolist(), positions[order[first[same]]].tolist(), strict=True))


def removal_tasks(folder: str, plans: list[Plan], duplicates: dict[int, int]) -> list[RemovalTask]:
    """What makes every shard lose its recordings that are `duplicates`; those that have lost theirs are left alone.

    Raises:
        DatasetError: a shard has lost others, so the recordings themselves have changed since.
    """
    tasks = []
    for plan in plans:
        wanted = {place for place, position in enumerate(plan.positions.tolist()) if position in duplicates}
        removed = set(finished_result(folder, plan.file).removed)
        if not removed <= wanted:
            raise DatasetError(
                f"{folder}/{plan.file}: Expected recordings that stay as they are until prepare ends. Received some "
                "that changed while it was stopped: remove the folder and begin anew."
            )
        if wanted > removed:
            tasks.append(RemovalTask(folder, plan.file, tuple(sorted(wanted - removed))))
    return tasks
