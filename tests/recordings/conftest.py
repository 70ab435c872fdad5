"""What the tests of every reader share: files, refusals, and damage."""

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from keras_ecg_mae.config import Signal
from keras_ecg_mae.errors import RecordingError
from keras_ecg_mae.recordings import Recording, open_recording
from keras_ecg_mae.recordings.leads_and_units import lead_names


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


TEXTS = (
    *("", " ", ",", "0", "-1", "1", "2", "16", "0.5", "1e-320", "1e300", "-1e300", "1e999", "nan", "-inf", "9" * 25),
    *("9" * 5000, "1_000", "0x10", "\u0663", "\u00b5V", "mV", "True", "Plain", "XLI", "AAAA", "=", "1 2 3"),
    *("1,2,3", "1,,3"),
)


def element_mutations(content: bytes, count: int, seed: int = 0) -> Iterator[bytes]:
    """`count` damaged versions of an XML document, the same ones each time.

    Each has one to three kinds of damage: an element or attribute left out, doubled, moved or renamed, or its text
    replaced (by an extreme number, another element's text, or a part of its own).
    """
    rng = np.random.default_rng(seed)
    for _ in range(count):
        root = ElementTree.fromstring(content)
        for _ in range(rng.integers(1, 4)):
            _damage_element(root, rng)
        yield ElementTree.tostring(root)


def _damage_element(root: ElementTree.Element, rng: np.random.Generator) -> None:
    parents = [element for element in root.iter() if len(element)]
    if not parents:  # the damage before this took all
        return
    parent = parents[rng.integers(len(parents))]
    element = parent[int(rng.integers(len(parent)))]
    text = TEXTS[rng.integers(len(TEXTS))]
    names = list(element.attrib)
    match rng.integers(8):
        case 0:
            parent.remove(element)
        case 1:
            parent.append(element)
        case 2:
            parents[rng.integers(len(parents))].insert(0, copy.deepcopy(element))
        case 3:
            element.text = text
        case 4 if names:
            element.set(names[rng.integers(len(names))], text)
        case 5 if names:
            del element.attrib[names[rng.integers(len(names))]]
        case 6:
            element.text = (element.text or "")[: int(rng.integers(20))]
        case _:
            other = parent[int(rng.integers(len(parent)))]
            element.text, other.text = other.text, element.text


def written(folder: Path, content: str | bytes, name: str = "ecg") -> str:
    """Writes a file. Returns its path."""
    (folder / name).write_bytes(content.encode() if isinstance(content, str) else content)
    return str(folder / name)


def refusal(path: str | Path, signal: Signal | None = None) -> RecordingError:
    """Why a recording is refused; fails where it is read."""
    with pytest.raises(RecordingError) as caught:
        open_recording(path, signal)
    assert caught.value.path == str(path)
    return caught.value


def assert_is_as_expected(recording: Recording, case: Path) -> None:
    """Holds a recording against the values in the `expected.json` of a case of ../shared/cases."""
    expected = json.loads((case / "expected.json").read_text())["expected"]
    assert recording.sampling_rate_hz == expected["sampling_rate_hz"]
    assert recording.ecg_mv.shape[1] == expected["samples"]
    ranges_mv = dict(zip(lead_names(recording.leads), np.ptp(recording.ecg_mv, axis=1), strict=True))
    assert ranges_mv == pytest.approx(expected["peak_to_peak_mv"], abs=expected["tolerance_mv"])
