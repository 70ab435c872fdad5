"""The same signal under several ids."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keras_ecg_mae.config import Quality
from keras_ecg_mae.dataset import Manifest, evaluation_batches, prepare, verify
from keras_ecg_mae.dataset.collecting import find_duplicates
from keras_ecg_mae.dataset.shards import ShardResult

if TYPE_CHECKING:
    from tests.dataset.conftest import Contents, Hospital

REJECT = Quality(reject=("duplicate_signal",))


def table(path: Path) -> dict[str, dict[str, str]]:
    with open(path, encoding="utf-8") as file:
        return {row["file"]: row for row in csv.DictReader(file)}


def record_ids(manifest: Manifest) -> set[str]:
    batches = evaluation_batches(manifest, ("train", "validation", "test"), batch_size=4, labelled=False)
    return {name.decode() for batch in batches.as_numpy_iterator() for name in batch["record_id"]}


def test_they_are_found_and_stay_unless_told_otherwise(
    twins: Hospital, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    # With this seed, a and a2 are in different splits.
    manifest = prepare(twins.cohort(tmp_path / "dataset", split_seed=3))
    assert manifest.count() == 12
    assert manifest.findings["duplicate_signal"] == 3
    rows = {
        name: row
        for name, row in table(tmp_path / "dataset/findings.csv").items()
        if row["finding"] == "duplicate_signal"
    }
    assert set(rows) == {"a2", "b2", "b3"}
    assert rows["b3"]["detail"] == "Expected samples of its own. Received those of b, of the same patient."
    assert rows["a2"]["detail"].startswith("Expected samples of its own. Received those of a, of another patient, in")
    assert rows["a2"]["detail"].endswith("what is tested on leaks.")
    assert "1 recordings have the samples of another patient's, 1 of them of one in another split" in caplog.text


def test_all_but_the_first_are_left_out_where_configured(
    twins: Hospital, tmp_path: Path, secret: str, contents: Contents
) -> None:
    cohort = twins.cohort(tmp_path / "dataset", patient_key_file=secret, records_per_shard=2)
    manifest = prepare(cohort, quality=REJECT)
    verify(manifest)
    assert record_ids(manifest) == set("abcdefghi")
    assert manifest.count() == sum(shard.records for shard in manifest.shards) == 9
    assert manifest.rejected == {"duplicate_signal": 3}
    assert "duplicate_signal" not in manifest.findings
    rejected = table(tmp_path / "dataset/rejected.csv")
    assert list(rejected) == ["a2", "b2", "b3"]
    assert "Received those of a, of another patient" in rejected["a2"]["detail"]
    again = twins.cohort(tmp_path / "again", patient_key_file=secret, records_per_shard=2, workers=1)
    prepare(again, quality=REJECT)
    assert contents(tmp_path / "again") == contents(tmp_path / "dataset")


@given(st.lists(st.sampled_from(["", "a", "b", "c", "d", "e"]), min_size=1, max_size=40), st.integers(1, 5))
def test_the_first_in_the_table_is_named(digests: list[str], count: int) -> None:
    positions = np.random.default_rng(len(digests)).permutation(2 * len(digests))[: len(digests)]
    shards = {str(shard): part for shard, part in enumerate(np.array_split(positions, count))}
    results = {
        str(shard): ShardResult(digests=part.tolist()) for shard, part in enumerate(np.array_split(digests, count))
    }
    groups: dict[str, list[int]] = {}
    for position, digest in zip(positions.tolist(), digests, strict=True):
        groups.setdefault(digest, []).append(position)
    groups.pop("", None)  # of recordings that were rejected
    expected = {later: min(group) for group in groups.values() for later in group if later != min(group)}
    assert find_duplicates(shards, results) == expected
