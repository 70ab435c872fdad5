"""The description of a dataset folder."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from keras_ecg_mae.dataset import Manifest, read_manifest, verify
from keras_ecg_mae.errors import DatasetError, FileError

Change = Callable[[dict[str, Any]], object]


def test_counts(dataset: Manifest) -> None:
    assert dataset.count() == 170
    assert dataset.count("train") == 150
    assert dataset.count("train", labelled=True) == 100
    assert dataset.count("train", labelled=False) == 50
    assert dataset.count("validation", institution="north", labelled=True) == 14
    assert dataset.count(institution="south") == 0
    assert dataset.positives("train") == 50
    assert dataset.institutions == ("north",)


def test_what_is_written_is_read(dataset: Manifest) -> None:
    dataset.write()
    assert read_manifest(dataset.folder) == dataset


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda content: content["signal"].update(samples=4096), "Expected samples 5000. Received 4096"),
        (lambda content: content["signal"].update(sampling_rate_hz=400), "Expected sampling_rate_hz 500. Received 400"),
        (lambda content: content["signal"]["leads"].reverse(), "Expected leads ['I', 'II', 'III'"),
        (lambda content: content.update(format=3), "Expected the format 4. Received 3: prepare it again"),
        (lambda content: content.pop("shards"), "Expected the fields of a dataset manifest."),
        (lambda content: content["counts"][0].update(more=1), "Expected the description of a cohort."),
    ],
    ids=["samples", "rate", "leads", "format", "shards", "counts"],
)
def test_another_contract_is_refused(edit_manifest: Callable[[Change], str], change: Change, sentence: str) -> None:
    folder = edit_manifest(change)
    with pytest.raises(DatasetError, match=re.escape(f"{folder}/manifest.json: {sentence}")):
        read_manifest(folder)


def test_no_folder(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"nothing/manifest\.json: Expected a dataset folder that prepare finished"):
        read_manifest(str(tmp_path / "nothing"))


@pytest.mark.parametrize("content", [b"{", b"[]", b"\xff"])
def test_no_manifest(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "manifest.json").write_bytes(content)
    with pytest.raises(FileError, match=r"manifest\.json: Expected"):
        read_manifest(str(tmp_path))


def test_a_missing_and_a_short_shard(edit_manifest: Callable[[Change], str]) -> None:
    folder = edit_manifest(lambda content: None)
    with pytest.raises(DatasetError, match=r"north/train-00000\.tfrecord: Expected this shard"):
        read_manifest(folder)
    (Path(folder) / "north").mkdir()
    (Path(folder) / "north/train-00000.tfrecord").write_bytes(b"short")
    with pytest.raises(DatasetError, match=r"train-00000\.tfrecord: Expected a shard of \d+ bytes\. Received 5\."):
        read_manifest(folder)


def test_verify_names_the_shard_with_a_flipped_byte(dataset: Manifest, edit_manifest: Callable[[Change], str]) -> None:
    verify(dataset)
    folder = Path(edit_manifest(lambda content: None))
    (folder / "north").mkdir()
    for shard in dataset.shards:
        (folder / shard.file).write_bytes((Path(dataset.folder) / shard.file).read_bytes())
    damaged = folder / dataset.shards[1].file
    content = bytearray(damaged.read_bytes())
    content[5000] ^= 1
    damaged.write_bytes(content)
    with pytest.raises(DatasetError, match=rf"{dataset.shards[1].file}: Expected the SHA-256 .* damaged"):
        verify(read_manifest(str(folder)))
