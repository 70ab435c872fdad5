"""Preparing a dataset: from a table and a folder of recordings to TFRecord shards and their manifest."""

import csv
import io
import os
import platform
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib import metadata
from typing import Any

import numpy as np
import pandas as pd
import tensorflow as tf
from absl import logging
from tqdm import tqdm

from keras_ecg_mae.config import SPLITS, Cohort
from keras_ecg_mae.dataset.cohort import Table, read_table
from keras_ecg_mae.dataset.description import CohortDescription, describe
from keras_ecg_mae.dataset.manifest import (
    COHORT,
    MANIFEST,
    REJECTED,
    Manifest,
    Shard,
    read_manifest,
    write_cohort,
)
from keras_ecg_mae.dataset.patient_key import PatientKeys, create_keys, read_keys, secret_path
from keras_ecg_mae.dataset.pool import write_in_pool
from keras_ecg_mae.dataset.schema import Metadata
from keras_ecg_mae.dataset.shard import TEMPORARY, ShardResult, ShardTask, write_shard
from keras_ecg_mae.dataset.split import assign_splits, hashed_order
from keras_ecg_mae.dataset.storage import make_folder, write_text
from keras_ecg_mae.errors import ConfigError, DatasetError
from keras_ecg_mae.storage import open_storage

# Marks a folder as ours until its manifest is written: what a prepare that was stopped left there may be removed.
_UNFINISHED = "unfinished"
# Settings that do not change what a dataset holds. The table counts by its checksum, the secret by its fingerprint.
_CIRCUMSTANCES = ("labels", "output", "patient_key_file", "workers", "table_only")
_LIBRARIES = ("keras-ecg-mae", "tensorflow", "numpy", "scipy", "pandas", "wfdb")
# A process takes seconds to start, for TensorFlow; about so many recordings are read meanwhile.
_WORTH_A_POOL = 4000
_LOG_INTERVAL_S = 30.0


@dataclass(frozen=True)
class _Plan:
    """One shard to be: its place, and which rows of the table go there."""

    file: str
    institution: str
    split: str
    positions: np.ndarray


def prepare(cohort: Cohort) -> Manifest:
    """Writes the dataset folder `cohort.output`: shards, `rejected.csv` and, last, `manifest.json`.

    A recording that cannot be used is listed in `rejected.csv` and the rest goes on. The same recordings, table,
    settings and secret give the same bytes, however many processes work. A dataset that is there already, from the same
    settings and table, is returned as it is.

    Raises:
        ConfigError: a setting is missing or contradicts the table.
        DatasetError: the table or the output folder cannot be used, or no recording can.
    """
    _check_paths(cohort)
    table = read_table(cohort)
    secret = secret_path(cohort)
    keys = read_keys(secret)
    if tf.io.gfile.exists(f"{_folder(cohort)}/{MANIFEST}"):
        return _already_prepared(cohort, table, keys)
    keys = keys or create_keys(secret)
    rows = _split(cohort, table).assign(reason="", detail="")
    _begin(cohort)
    plans = list(_plan(cohort, rows))
    for folder in {os.path.dirname(plan.file) for plan in plans}:
        make_folder(f"{_folder(cohort)}/{folder}")
    results = _write_shards(cohort, rows, plans, keys)
    for plan, result in zip(plans, results, strict=True):
        if result.rejected:
            positions, reasons, details = zip(*result.rejected, strict=True)
            rows.loc[plan.positions[list(positions)], "reason"] = reasons
            rows.loc[plan.positions[list(positions)], "detail"] = details
    description = describe(rows[rows["reason"] == ""], table.label_name, cohort.external_institutions)
    manifest = Manifest(
        folder=cohort.output,
        **vars(description),
        shards=tuple(_shard(rows, plan, result) for plan, result in zip(plans, results, strict=True)),
        rejected=dict(sorted(Counter(rows.loc[rows["reason"] != "", "reason"]).items())),
        settings=_settings(cohort),
        table_sha256=table.sha256,
        patient_keys=keys.fingerprint,
        versions=_versions(),
    )
    _write_rejected(cohort, rows)
    if manifest.count() == 0:
        _remove_shards(cohort)
        first = rows.iloc[0]
        raise DatasetError(
            f"{cohort.labels}: Expected at least one usable recording. Received none: all {len(rows)} were rejected "
            f"({_tally(manifest)}), the first, {first['path']}, because: {first['detail']} "
            f"See {_folder(cohort)}/{REJECTED}."
        )
    manifest.write()
    if tf.io.gfile.exists(f"{_folder(cohort)}/{COHORT}"):
        tf.io.gfile.remove(f"{_folder(cohort)}/{COHORT}")  # the manifest says it of what was accepted
    tf.io.gfile.remove(f"{_folder(cohort)}/{_UNFINISHED}")
    _report(manifest)
    return manifest


def split_table(cohort: Cohort) -> CohortDescription:
    """Reads and splits the table as `prepare` would, opens no recording, and writes `cohort.json` into `cohort.output`.

    Raises:
        ConfigError: a setting is missing or contradicts the table.
        DatasetError: the table or the output folder cannot be used, or holds a prepared dataset.
    """
    _check_paths(cohort)
    if tf.io.gfile.exists(f"{_folder(cohort)}/{MANIFEST}"):
        raise DatasetError(
            f"{_folder(cohort)}/{MANIFEST}: Expected no dataset in --output with --table_only. Received one."
        )
    _refuse_foreign(cohort)
    table = read_table(cohort)
    description = describe(_split(cohort, table), table.label_name, cohort.external_institutions)
    make_folder(_folder(cohort))
    write_cohort(_folder(cohort), description, settings=_settings(cohort), table_sha256=table.sha256)
    return description


def _split(cohort: Cohort, table: Table) -> pd.DataFrame:
    """The table's rows with their split."""
    splits = assign_splits(
        table.rows,
        external_institutions=cohort.external_institutions,
        train_fraction=cohort.train_fraction,
        validation_fraction=cohort.validation_fraction,
        seed=cohort.split_seed,
    )
    return table.rows.assign(split=splits)


def _check_paths(cohort: Cohort) -> None:
    for name in ("labels", "output"):
        cohort.expect(name, getattr(cohort, name) != "", "to be given")
    if not cohort.table_only:
        cohort.expect("recordings", os.path.isdir(cohort.recordings), "to be a folder that exists")
    open_storage(cohort.output)
    if tf.io.gfile.exists(cohort.output) and not tf.io.gfile.isdir(cohort.output):
        raise ConfigError(f"Expected --output to be a folder. Received the file {cohort.output!r}.")


def _settings(cohort: Cohort) -> dict[str, Any]:
    """The settings that decide what the dataset holds, as they come back from JSON."""
    settings = {name: value for name, value in asdict(cohort).items() if name not in _CIRCUMSTANCES}
    return {name: sorted(value) if isinstance(value, tuple) else value for name, value in settings.items()}


def _already_prepared(cohort: Cohort, table: Table, keys: PatientKeys | None) -> Manifest:
    """The dataset that lies in the output folder, if it is the one that would be prepared."""
    manifest = read_manifest(cohort.output)
    now = _settings(cohort)
    differences = [
        f"--{Cohort.flag(name)} {manifest.settings.get(name)!r} there, {now[name]!r} now"
        for name in now
        if manifest.settings.get(name) != now[name]
    ]
    if manifest.table_sha256 != table.sha256:
        differences.append(f"the table {cohort.labels} has changed")
    if keys is None or manifest.patient_keys != keys.fingerprint:
        differences.append(f"the patient key file {secret_path(cohort)} is another one or missing")
    if differences:
        raise DatasetError(
            f"{manifest.path}: Expected no dataset in --output, or the same one. Received one that differs: "
            f"{'; '.join(differences)}. Remove it, or give another --output."
        )
    logging.info("%s is there already, prepared with the same settings and table.", manifest.path)
    return manifest


def _begin(cohort: Cohort) -> None:
    """Makes the output folder, or empties one that a `prepare` which was stopped has left."""
    marker = f"{_folder(cohort)}/{_UNFINISHED}"
    _refuse_foreign(cohort)
    make_folder(_folder(cohort))
    if not tf.io.gfile.exists(marker):
        write_text(marker, "prepare was stopped before it finished; running it again begins anew\n")
    _remove_shards(cohort)


def _refuse_foreign(cohort: Cohort) -> None:
    """Refuses an output folder that holds what this module did not write."""
    if not tf.io.gfile.exists(_folder(cohort)) or tf.io.gfile.exists(f"{_folder(cohort)}/{_UNFINISHED}"):
        return
    found = [name for name in tf.io.gfile.listdir(_folder(cohort)) if not name.startswith(".") and name != COHORT]
    if found:
        raise DatasetError(
            f"{cohort.output}: Expected a new or an empty folder (--output). "
            f"Received one that holds {sorted(found)[0]!r}."
        )


def _remove_shards(cohort: Cohort) -> None:
    for ending in (".tfrecord", ".tfrecord" + TEMPORARY):
        for path in tf.io.gfile.glob(f"{_folder(cohort)}/*/*-[0-9]*-of-[0-9]*{ending}"):
            tf.io.gfile.remove(path)


def _folder(cohort: Cohort) -> str:
    return cohort.output.rstrip("/")


def _plan(cohort: Cohort, rows: pd.DataFrame) -> Iterator[_Plan]:
    """Which recordings go to which shard: in an order that looks random and does not depend on that of the table."""
    order = np.argsort(np.array(hashed_order(rows["record_id"], cohort.split_seed), dtype=object), kind="stable")
    for (institution, split), group in rows.iloc[order].groupby(["institution", "split"], sort=True):
        shards = -(-len(group) // cohort.records_per_shard)
        for number, positions in enumerate(np.array_split(group.index.to_numpy(), shards)):
            file = f"{institution}/{split}-{number:05d}-of-{shards:05d}.tfrecord"
            yield _Plan(file, institution, split, positions)


def _task(cohort: Cohort, rows: pd.DataFrame, plan: _Plan, keys: PatientKeys) -> ShardTask:
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
    return ShardTask(f"{_folder(cohort)}/{plan.file}", cohort, recordings)


def _write_shards(cohort: Cohort, rows: pd.DataFrame, plans: list[_Plan], keys: PatientKeys) -> list[ShardResult]:
    processes = min(cohort.workers or os.cpu_count() or 1, len(plans))
    if cohort.workers == 0 and len(rows) < _WORTH_A_POOL:
        processes = 1
    tasks = (_task(cohort, rows, plan, keys) for plan in plans)
    interval = 0.1 if sys.stderr.isatty() else _LOG_INTERVAL_S
    with tqdm(total=len(rows), desc="prepare", unit=" recordings", mininterval=interval) as bar:
        if processes == 1:
            return [write_shard(task, bar.update) for task in tasks]
        return write_in_pool(tasks, processes, lambda done: bar.update(done - bar.n))


def _shard(rows: pd.DataFrame, plan: _Plan, result: ShardResult) -> Shard:
    accepted = np.delete(plan.positions, [position for position, _, _ in result.rejected])
    return Shard(
        file=plan.file,
        institution=plan.institution,
        split=plan.split,
        records=len(accepted),
        labelled=int(rows.loc[accepted, "label"].notna().sum()),
        size_bytes=result.size_bytes,
        sha256=result.sha256,
    )


def _versions() -> dict[str, str]:
    return {"python": platform.python_version(), **{library: _version(library) for library in _LIBRARIES}}


def _version(library: str) -> str:
    try:
        return metadata.version(library)
    except metadata.PackageNotFoundError:  # this package, used from its source
        return "not installed"


def _write_rejected(cohort: Cohort, rows: pd.DataFrame) -> None:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("file", "reason", "detail"))
    writer.writerows(rows.loc[rows["reason"] != "", ["path", "reason", "detail"]].itertuples(index=False))
    write_text(f"{_folder(cohort)}/{REJECTED}", text.getvalue())


def _tally(manifest: Manifest) -> str:
    return ", ".join(f"{reason} {count}" for reason, count in manifest.rejected.items()) or "none"


def _report(manifest: Manifest) -> None:
    logging.info(
        "%s: %d recordings (%d training, %d validation, %d test), %d labelled, %d positive; rejected: %s.",
        manifest.folder,
        manifest.count(),
        *(manifest.count(split) for split in SPLITS),
        manifest.count(labelled=True),
        manifest.positives(),
        _tally(manifest),
    )
    for split in SPLITS if manifest.label_name else ():
        positives, labelled = manifest.positives(split), manifest.count(split, labelled=True)
        if positives in (0, labelled):
            logging.warning(
                "%s: the %s split has %d positive of %d labelled recordings; fine-tuning and evaluation need both "
                "classes in each split.",
                manifest.folder,
                split,
                positives,
                labelled,
            )
