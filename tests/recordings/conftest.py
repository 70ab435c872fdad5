"""Damaged files for every reader."""

import resource
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from keras_ecg_mae.errors import RecordingError
from keras_ecg_mae.recordings import Recording

LONGEST_S, MOST_BYTES = 5.0, 1 << 30


def mutations(content: bytes, count: int, seed: int = 0) -> Iterator[bytes]:
    """`count` damaged versions of a file, the same ones each time.

    Each has one to three kinds of damage: bits flipped, a run of bytes overwritten (by noise, zeros, 0xFF or an extreme
    number), the end cut off, a run left out, a run doubled, bytes put in. Half of them fall into the first kilobytes,
    where headers are.
    """
    rng = np.random.default_rng(seed)
    for _ in range(count):
        data = bytearray(content)
        for _ in range(rng.integers(1, 4)):
            if data:
                _damage(data, rng)
        yield bytes(data)


def _damage(data: bytearray, rng: np.random.Generator) -> None:
    reach = len(data) if rng.random() < 0.5 else min(len(data), 2048)
    start = int(rng.integers(reach))
    end = min(len(data), start + int(rng.geometric(1 / 16)))
    match rng.integers(6):
        case 0:
            for place in rng.integers(reach, size=rng.geometric(1 / 4)):
                data[place] ^= 1 << int(rng.integers(8))
        case 1:
            fill = [rng.bytes(end - start), bytes(end - start), b"\xff" * (end - start), b"99999999999999999999"]
            data[start:end] = fill[rng.integers(4)][: end - start]
        case 2:
            del data[start:]
        case 3:
            del data[start:end]
        case 4:
            data[start:start] = data[start:end]
        case 5:
            data[start:start] = rng.bytes(int(rng.geometric(1 / 8)))


@pytest.fixture
def survives(tmp_path: Path) -> Callable[..., tuple[int, int]]:
    """Reads many damaged versions of a file; fails where one ends in anything but a recording or its refusal.

    Called with a reader's function of a path, the file's content, its name, and how many. Returns how many were read
    and how many refused.
    """

    def attempt(
        read: Callable[[str], Recording], content: bytes, name: str, count: int, seed: int = 0
    ) -> tuple[int, int]:
        path = tmp_path / name
        outcomes = [0, 0]
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        for number, damaged in enumerate(mutations(content, count, seed)):
            path.write_bytes(damaged)
            began = time.process_time()  # of this process alone: the machine may be busy with others
            try:
                recording = read(str(path))
            except RecordingError:
                outcomes[1] += 1
            except BaseException as error:
                raise AssertionError(f"{name}, damaged version {number} of seed {seed}: {error!r}") from error
            else:
                assert isinstance(recording, Recording)
                assert recording.ecg_mv.dtype == np.float64
                outcomes[0] += 1
            assert time.process_time() - began < LONGEST_S, f"{name}, damaged version {number} of seed {seed}"
        grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
        assert grown < MOST_BYTES, f"{name}: {grown} bytes more at the peak"
        return outcomes[0], outcomes[1]

    return attempt
