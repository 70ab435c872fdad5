"""Which recordings go to which shard, and what a process needs to know to write one."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd

from keras_ecg_mae.cohort.patient_key import PatientKeys
from keras_ecg_mae.cohort.split import hashed_order
from keras_ecg_mae.config import Cohort, Quality, Signal
from keras_ecg_mae.dataset.shard import ShardTask
from keras_ecg_mae.dataset.tf_example import Metadata


@dataclass(frozen=True)
class Plan:
    """One shard to be.

    Attributes:
        file: its path in the dataset folder.
        institution: where all its recordings come from.
        split: the split all of them belong to.
        positions: which rows of the table go there, in this order.
    """

    file: str
    institution: str
    split: str
    positions: np.ndarray

    def __len__(self) -> int:
        return len(self.positions)


def plan_shards(cohort: Cohort, rows: pd.DataFrame) -> list[Plan]:
    """Deals the rows of `cohort.Table.rows`, with their `split`, out to shards.

    Their order looks random and does not depend on that of the table.
    """
    order = np.argsort(np.array(hashed_order(rows["record_id"], cohort.split_seed), dtype="S16"), kind="stable")
    plans = []
    for (institution, split), group in rows[["institution", "split"]].iloc[order].groupby(["institution", "split"]):
        shards = -(-len(group) // cohort.records_per_shard)
        for number, positions in enumerate(np.array_split(group.index.to_numpy(), shards)):
            file = f"{institution}/{split}-{number:05d}-of-{shards:05d}.tfrecord"
            plans.append(Plan(file, institution, split, positions))
    return plans


def shard_tasks(
    folder: str,
    plans: list[Plan],
    rows: pd.DataFrame,
    *,
    cohort: Cohort,
    signal: Signal,
    quality: Quality,
    keys: PatientKeys,
) -> Iterator[ShardTask]:
    """A task a plan, made when it is asked for."""
    for plan in plans:
        recordings = tuple(
            (
                row.path,
                Metadata(
                    record_id=row.record_id,
                    patient_key=keys.key(row.patient_id),
                    institution=row.institution,
                    label=None if np.isnan(row.label) else int(row.label),
                    lvef=None if np.isnan(row.lvef) else float(row.lvef),
                    age=None if np.isnan(row.age) else float(row.age),
                    sex=row.sex,
                ),
            )
            for row in rows.loc[plan.positions].itertuples()
        )
        yield ShardTask(folder, plan.file, cohort, signal, quality, recordings)
