"""What all shards' results say together: who was left out and why, what was found, and the manifest's shards."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby

import numpy as np
import pandas as pd
from absl import logging

from keras_ecg_mae.dataset.duplicates import DUPLICATE
from keras_ecg_mae.dataset.lists import findings_file
from keras_ecg_mae.dataset.manifest import FINDINGS, Shard
from keras_ecg_mae.dataset.plan import Plan
from keras_ecg_mae.dataset.shard_result import ShardResult, finished_result


@dataclass(frozen=True)
class Gathered:
    """The results of all shards.

    Attributes:
        shards: as in the manifest.
        accepted: `(rows,)` whether each row of the table is in the dataset.
        rejected: reason and detail by the position of each row that is not.
        findings: recordings that are in and have a finding, by code.
    """

    shards: tuple[Shard, ...]
    accepted: np.ndarray
    rejected: Mapping[int, tuple[str, str]]
    findings: Mapping[str, int]


def gather(folder: str, rows: pd.DataFrame, plans: list[Plan], duplicates: Mapping[int, int]) -> Gathered:
    """Puts the results of all shards together, and writes `findings.csv` in their order.

    Args:
        folder: the dataset folder.
        rows: `cohort.Table.rows` with their `split`.
        plans: all shards, which are written.
        duplicates: of `find_duplicates`.

    Raises:
        DatasetError: a shard is not there, or `findings.csv` cannot be written.
    """
    paths, has_label = rows["path"], rows["label"].notna().to_numpy()
    accepted = np.zeros(len(rows), bool)
    rejected: dict[int, tuple[str, str]] = {}
    findings: Counter[str] = Counter()
    shards = []
    with findings_file(folder) as write:
        # One result at a time: together, those of a large dataset would fill the memory.
        for plan in plans:
            result = finished_result(folder, plan.file)
            for place, reason, detail in result.rejected:
                rejected[int(plan.positions[place])] = (reason, detail)
            for place in result.removed:
                position = int(plan.positions[place])
                rejected[position] = (DUPLICATE, _sentence(rows, position, duplicates[position]))
            found: set[tuple[int, str]] = set()
            for position, code, lead, value, detail in _findings(rows, plan, result, duplicates):
                found.add((position, code))
                write((paths[position], code, lead or "", "" if value is None else f"{value:.6g}", detail))
            findings.update(code for _, code in found)
            kept = plan.positions[result.accepted()]
            accepted[kept] = True
            labelled = int(has_label[kept].sum())
            shards.append(
                Shard(plan.file, plan.institution, plan.split, len(kept), labelled, result.size_bytes, result.sha256)
            )
    _warn_of_leaks(rows, accepted, duplicates)
    return Gathered(tuple(shards), accepted, rejected, dict(sorted(findings.items())))


def _findings(
    rows: pd.DataFrame, plan: Plan, result: ShardResult, duplicates: Mapping[int, int]
) -> Iterator[tuple[int, str, str | None, float | None, str]]:
    """Position in the table, code, lead, value and detail of what was found in the recordings that a shard holds."""
    by_place = {place: list(found) for place, found in groupby(result.findings, key=lambda finding: finding.position)}
    for place in result.accepted():
        position = int(plan.positions[place])
        for finding in by_place.get(place, ()):
            yield position, finding.code, finding.lead, finding.value, finding.detail
        if position in duplicates:
            yield position, DUPLICATE, None, None, _sentence(rows, position, duplicates[position])


def _sentence(rows: pd.DataFrame, position: int, first: int) -> str:
    """Whose samples a recording has."""
    who = "the same patient" if _same(rows, "patient_id", position, first) else "another patient"
    there, here = rows["split"][first], rows["split"][position]
    leak = "" if there == here else f", in the {there} split where this is in {here}: what is tested on leaks"
    return f"Expected samples of its own. Received those of {rows['path'][first]}, of {who}{leak}."


def _same(rows: pd.DataFrame, column: str, position: int, first: int) -> bool:
    return bool(rows[column][position] == rows[column][first])


def _warn_of_leaks(rows: pd.DataFrame, accepted: np.ndarray, duplicates: Mapping[int, int]) -> None:
    """Says so where the same samples are in the dataset under several patients."""
    both = [pair for pair in duplicates.items() if accepted[list(pair)].all()]
    others = [pair for pair in both if not _same(rows, "patient_id", *pair)]
    leaks = [pair for pair in others if not _same(rows, "split", *pair)]
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
