"""What all shards' results say together: duplicates, who was left out and why, what was found, the manifest's shards.

Shards are told by their files, and each is a `(recordings,)` array of positions in the table's rows.
"""

import csv
import io
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import chain

import numpy as np
import pandas as pd
from absl import logging

from keras_ecg_mae.cohort.read import Table
from keras_ecg_mae.dataset.manifest import FINDINGS, REJECTED, Shard
from keras_ecg_mae.dataset.shards import ShardResult
from keras_ecg_mae.errors import DatasetError
from keras_ecg_mae.files import whole_file

DUPLICATE = "duplicate_signal"

Positions = Mapping[str, np.ndarray]
Results = Mapping[str, ShardResult]


def find_duplicates(shards: Positions, results: Results) -> dict[int, int]:
    """The first position with the same stored samples, by each later one."""
    digests = pd.Series(
        list(chain.from_iterable(results[file].digests for file in shards)), np.concatenate(list(shards.values())), str
    )
    digests = digests[digests != ""]
    position = digests.index.to_series()
    first = position.groupby(digests).transform("min")
    return first[first != position].to_dict()


def duplicates_to_remove(
    folder: str, shards: Positions, results: Results, duplicates: Mapping[int, int]
) -> dict[str, tuple[int, ...]]:
    """The places in each shard of duplicates that it still holds; shards without any are left out.

    Raises:
        DatasetError: a shard has lost others, so the recordings themselves have changed since.
    """
    places = {}
    for file, positions in shards.items():
        wanted = {place for place, position in enumerate(positions.tolist()) if position in duplicates}
        removed = set(results[file].duplicates)
        if not removed <= wanted:
            raise DatasetError(
                f"{folder}/{file}: Expected recordings that stay as they are until prepare ends. Received some that "
                "changed while it was stopped: remove the folder and begin anew."
            )
        if wanted > removed:
            places[file] = tuple(sorted(wanted - removed))
    return places


def rejections(
    rows: pd.DataFrame, shards: Positions, results: Results, duplicates: Mapping[int, int]
) -> dict[int, tuple[str, str]]:
    """Reason and detail by the position of each recording that is not in the dataset."""
    rejected = {}
    for file, positions in shards.items():
        for place, reason, detail in results[file].rejected:
            rejected[int(positions[place])] = (reason, detail)
        for position in positions[results[file].duplicates].tolist():
            rejected[position] = (DUPLICATE, _whose_samples(rows, position, duplicates[position]))
    return rejected


def write_rejected(folder: str, table: Table, rejected: Mapping[int, tuple[str, str]]) -> None:
    """Writes `rejected.csv`: the rows that the table itself ruled out, then the recordings, in the table's order."""
    with _csv_file(f"{folder}/{REJECTED}", ("file", "reason", "detail")) as write:
        for row in table.rejected[["path", "reason", "detail"]].itertuples(index=False):
            write(row)
        for position in sorted(rejected):
            write((table.rows["path"][position], *rejected[position]))


def write_findings(
    folder: str, rows: pd.DataFrame, shards: Positions, results: Results, duplicates: Mapping[int, int]
) -> dict[str, int]:
    """Writes `findings.csv`, what was found in the recordings of the dataset. Returns how many have each finding."""
    counts: Counter[str] = Counter()
    with _csv_file(f"{folder}/{FINDINGS}", ("file", "finding", "lead", "value", "detail")) as write:
        for file, positions in shards.items():
            found: dict[int, list[tuple[str, str, str, str]]] = {}
            for place, code, lead, value, detail in results[file].findings:
                found.setdefault(place, []).append((code, lead or "", f"{value:.6g}", detail))
            for place in results[file].accepted():
                position = int(positions[place])
                lines = found.get(place, [])
                if position in duplicates:
                    lines.append((DUPLICATE, "", "", _whose_samples(rows, position, duplicates[position])))
                for line in lines:
                    write((rows["path"][position], *line))
                counts.update({code for code, *_ in lines})
    return dict(sorted(counts.items()))


def manifest_shards(rows: pd.DataFrame, shards: Positions, results: Results) -> tuple[Shard, ...]:
    """The shards as the manifest lists them."""
    listed = []
    for file, positions in shards.items():
        result, first = results[file], rows.loc[positions[0]]
        kept = positions[result.accepted()]
        labelled = int(rows["label"][kept].notna().sum())
        listed.append(
            Shard(file, first["institution"], first["split"], len(kept), labelled, result.size_bytes, result.sha256)
        )
    return tuple(listed)


def warn_of_leaks(rows: pd.DataFrame, duplicates: Mapping[int, int], rejected: Mapping[int, object]) -> None:
    """Warns where the same samples are in the dataset under several patients."""
    others = [
        pair for pair in duplicates.items() if not rejected.keys() & set(pair) and not _agree(rows, "patient_id", *pair)
    ]
    leaks = [pair for pair in others if not _agree(rows, "split", *pair)]
    if others:
        logging.warning(
            "%d recordings have the samples of another patient's, %d of them of one in another split, which is tested "
            "on what it has learnt: see %s in %s. --quality_reject=%s leaves all but the first out.",
            len(others),
            len(leaks),
            DUPLICATE,
            FINDINGS,
            DUPLICATE,
        )


def _whose_samples(rows: pd.DataFrame, position: int, first: int) -> str:
    """The detail of a duplicate: whose samples it has."""
    who = "the same patient" if _agree(rows, "patient_id", position, first) else "another patient"
    there, here = rows["split"][first], rows["split"][position]
    leak = "" if there == here else f", in the {there} split where this is in {here}: what is tested on leaks"
    return f"Expected samples of its own. Received those of {rows['path'][first]}, of {who}{leak}."


def _agree(rows: pd.DataFrame, column: str, position: int, first: int) -> bool:
    return bool(rows[column][position] == rows[column][first])


@contextmanager
def _csv_file(path: str, columns: Sequence[str]) -> Iterator[Callable[[Sequence[object]], object]]:
    with whole_file(path) as file:
        text = io.TextIOWrapper(file, encoding="utf-8", newline="")
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(columns)
        yield writer.writerow
        text.flush()
        text.detach()
