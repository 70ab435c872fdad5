"""Preparing a dataset: from a table and a folder of recordings to TFRecord shards and their manifest."""

import os
import platform
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from importlib import metadata
from typing import Any

import numpy as np
import pandas as pd
from absl import logging

from keras_ecg_mae.cohort.description import CohortDescription, describe
from keras_ecg_mae.cohort.page import COHORT_PAGE, cohort_page
from keras_ecg_mae.cohort.patient_key import PatientKeys, create_keys, read_keys, secret_path
from keras_ecg_mae.cohort.read import Table, read_table
from keras_ecg_mae.cohort.split import assign_splits, hashed_order
from keras_ecg_mae.cohort.table_problems import TABLE_PROBLEMS
from keras_ecg_mae.config import SPLITS, Cohort, Quality, Section, Signal
from keras_ecg_mae.dataset.collecting import (
    DUPLICATE,
    duplicates_to_remove,
    find_duplicates,
    manifest_shards,
    rejections,
    warn_of_leaks,
    write_findings,
    write_rejected,
)
from keras_ecg_mae.dataset.example import Metadata
from keras_ecg_mae.dataset.manifest import COHORT, FORMAT, MANIFEST, REJECTED, Manifest, read_manifest, write_cohort
from keras_ecg_mae.dataset.resume import (
    begin,
    check_unfinished,
    clear,
    differences,
    discard,
    refuse_foreign,
    still_to_write,
)
from keras_ecg_mae.dataset.runners import run_tasks
from keras_ecg_mae.dataset.shards import ShardTask, finished_result, remove_duplicates, write_shard
from keras_ecg_mae.errors import ConfigError, DatasetError
from keras_ecg_mae.files import storage_path, write_whole

# Settings that do not change what a dataset holds. The tables count by their checksum, the secret by its fingerprint.
_CIRCUMSTANCES = ("labels", "echoes", "output", "patient_key_file", "workers", "runner", "table_only")
_SIGNAL, _QUALITY = Signal(), Quality()
_SETS = {"external_institutions", "quality_reject", "split_values"}  # whose order says nothing
# What reads tables and recordings. TensorFlow only reads what these have written.
_LIBRARIES = (
    "keras-ecg-mae",
    "numpy",
    "scipy",
    "pandas",
    "openpyxl",
    "pyarrow",
    "pydicom",
    "h5py",
    "defusedxml",
    "sierraecg",
)


def prepare(
    cohort: Cohort,
    signal: Signal = _SIGNAL,
    quality: Quality = _QUALITY,
    runner_arguments: Sequence[str] = (),
) -> Manifest:
    """Writes the dataset folder `cohort.output`: shards, `rejected.csv`, `findings.csv` and, last, `manifest.json`.

    A recording that cannot be used is listed in `rejected.csv` and the rest goes on. The same recordings, table,
    settings, secret and libraries give the same bytes, however many processes work, wherever they run, and however
    often `prepare` was killed and called again meanwhile. Libraries may be upgraded in between: the manifest names all
    versions that wrote shards. A dataset that is there already, from the same settings and table,
    is returned as it is.

    Args:
        cohort: the table, the recordings and where to write.
        signal: what the recordings' files may leave unsaid.
        quality: what to find, and which findings reject a recording.
        runner_arguments: pipeline options for `cohort.runner`, where that is an Apache Beam runner.

    Raises:
        ConfigError: a setting is missing or contradicts the table.
        DatasetError: the table or the output folder cannot be used, or no recording can.
    """
    _check_paths(cohort)
    folder = _folder(cohort)
    table = read_table(cohort)
    secret = secret_path(cohort)
    keys = read_keys(secret)
    identity = _identity(cohort, signal, quality, table, keys)
    if storage_path(f"{folder}/{MANIFEST}").exists():
        return _already_prepared(cohort, identity)
    check_unfinished(folder, identity)
    if keys is None:
        keys = create_keys(secret)
        identity["patient_keys"] = keys.fingerprint
    rows = _split(cohort, table)
    shards = plan_shards(cohort, rows)
    identity = begin(folder, identity)
    waiting = still_to_write(folder, shards, rows["path"], cohort.recordings)
    task = ShardTask(folder, "", cohort, signal, quality)
    total, left = len(rows), sum(map(len, waiting.values()))
    run_tasks(write_shard, _tasks(task, waiting, rows, keys), cohort, runner_arguments, total=total, done=total - left)
    results = {file: finished_result(folder, file) for file in shards}
    duplicates = find_duplicates(shards, results)
    if DUPLICATE in quality.reject:
        removed = duplicates_to_remove(folder, shards, results, duplicates)
        removals = [replace(task, file=file, duplicates=places) for file, places in removed.items()]
        run_tasks(remove_duplicates, removals, cohort, runner_arguments, total=sum(map(len, removals)))
        results |= {file: finished_result(folder, file) for file in removed}
    rejected = rejections(rows, shards, results, duplicates)
    write_rejected(folder, table, rejected)
    findings = write_findings(folder, rows, shards, results, duplicates)
    warn_of_leaks(rows, duplicates, rejected)
    description = replace(
        _describe(cohort, table, rows.drop(list(rejected)), (reason for reason, _ in rejected.values())),
        findings=findings,
        settings=identity["settings"],
    )
    if description.count() == 0:
        discard(folder, shards)
        count = sum(description.rejected.values())
        raise DatasetError(
            f"{cohort.labels}: Expected at least one usable recording. Received none: all {count} were rejected "
            f"({_tally(description.rejected)}), the first, {rows['path'][0]}, because: {rejected[0][1]} "
            f"See {folder}/{REJECTED}."
        )
    _write_reports(folder, table, description, "The cohort of a dataset")
    del identity["format"], identity["settings"]  # which the manifest has by itself
    manifest = Manifest(
        folder=cohort.output, **vars(description), shards=manifest_shards(rows, shards, results), **identity
    )
    manifest.write()
    storage_path(f"{folder}/{COHORT}").unlink(missing_ok=True)  # the manifest says it of what was accepted
    clear(folder)
    _report(manifest)
    return manifest


def split_table(cohort: Cohort) -> CohortDescription:
    """Reads and splits the table as `prepare` would, opens no recording, and writes `cohort.json` into `cohort.output`.

    Raises:
        ConfigError: a setting is missing or contradicts the table.
        DatasetError: the table or the output folder cannot be used, or holds a prepared dataset.
    """
    _check_paths(cohort)
    folder = _folder(cohort)
    if storage_path(f"{folder}/{MANIFEST}").exists():
        raise DatasetError(f"{folder}/{MANIFEST}: Expected no dataset in --output with --table_only. Received one.")
    refuse_foreign(folder)
    table = read_table(cohort)
    description = replace(_describe(cohort, table, _split(cohort, table), ()), settings=_settings(cohort))
    write_rejected(folder, table, {})
    _write_reports(folder, table, description, "The cohort of a table, before any recording was opened")
    write_cohort(folder, description, table_sha256=table.sha256)
    return description


def plan_shards(cohort: Cohort, rows: pd.DataFrame) -> dict[str, np.ndarray]:
    """Deals the rows of `cohort.Table.rows`, with their `split`, out to shards.

    Their order looks random and does not depend on that of the table.

    Returns:
        By each shard's path in the dataset folder, the positions of its rows in their order.
    """
    order = np.argsort(np.array(hashed_order(rows["record_id"], cohort.split_seed), dtype="S16"), kind="stable")
    shards = {}
    for (institution, split), group in rows[["institution", "split"]].iloc[order].groupby(["institution", "split"]):
        count = -(-len(group) // cohort.records_per_shard)
        for number, positions in enumerate(np.array_split(group.index.to_numpy(), count)):
            shards[f"{institution}/{split}-{number:05d}-of-{count:05d}.tfrecord"] = positions
    return shards


def _tasks(
    task: ShardTask, shards: Mapping[str, np.ndarray], rows: pd.DataFrame, keys: PatientKeys
) -> Iterator[ShardTask]:
    """The task with the file and the recordings of each shard, made when it is asked for."""
    for file, positions in shards.items():
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
            for row in rows.loc[positions].itertuples()
        )
        yield replace(task, file=file, recordings=recordings)


def _describe(cohort: Cohort, table: Table, rows: pd.DataFrame, reasons: Iterable[str]) -> CohortDescription:
    """Who is in `rows`, and how many recordings were left out, for `reasons` and by the table itself."""
    rejected = Counter(reasons) + table.problems.tally()
    description = describe(rows, table.label_name, cohort.external_institutions)
    return replace(description, rejected=dict(sorted(rejected.items())), table=table.summary)


def _write_reports(folder: str, table: Table, description: CohortDescription, title: str) -> None:
    """Writes `cohort.html`, and `table_problems.csv` where the table has any."""
    problems = f"{folder}/{TABLE_PROBLEMS}"
    if table.problems.counts():
        write_whole(problems, table.problems.csv())
    else:
        storage_path(problems).unlink(missing_ok=True)  # of another table, by --table_only
    # Without the folder's name: the same dataset has the same bytes, wherever it lies.
    write_whole(f"{folder}/{COHORT_PAGE}", cohort_page(description, title))


def _split(cohort: Cohort, table: Table) -> pd.DataFrame:
    """The table's rows with their split."""
    if cohort.split_column:
        return table.rows
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
    output = storage_path(cohort.output)
    if output.exists() and not output.is_dir():
        raise ConfigError(f"Expected --output to be a folder. Received the file {cohort.output!r}.")


def _folder(cohort: Cohort) -> str:
    return cohort.output.rstrip("/")


def _identity(
    cohort: Cohort, signal: Signal, quality: Quality, table: Table, keys: PatientKeys | None
) -> dict[str, Any]:
    """What decides what the dataset holds, and by which versions, as it comes back from JSON."""
    return {
        "format": FORMAT,
        "settings": _settings(cohort, signal, quality),
        "table_sha256": table.sha256,
        "patient_keys": keys.fingerprint if keys else None,
        "versions": {"python": platform.python_version(), **{library: _version(library) for library in _LIBRARIES}},
    }


def _settings(*sections: Section) -> dict[str, Any]:
    """The settings that decide what the dataset holds, by their flags."""
    settings = {
        section.flag(name): value
        for section in sections
        for name, value in vars(section).items()
        if not (isinstance(section, Cohort) and name in _CIRCUMSTANCES)
    }
    for name in _SETS & settings.keys():
        settings[name] = sorted(settings[name])
    return {name: list(value) if isinstance(value, tuple) else value for name, value in settings.items()}


def _version(library: str) -> str:
    try:
        return metadata.version(library)
    except metadata.PackageNotFoundError:  # this package, used from its source
        return "not installed"


def _already_prepared(cohort: Cohort, identity: dict[str, Any]) -> Manifest:
    """The dataset that lies in the output folder, if it is the one that would be prepared, by whichever versions."""
    manifest = read_manifest(cohort.output)  # of this format, or refused
    found = differences({**vars(manifest), "format": FORMAT}, identity)
    if found:
        raise DatasetError(
            f"{manifest.path}: Expected no dataset in --output, or the same one. Received one that differs: "
            f"{'; '.join(found)}. Remove it, or give another --output."
        )
    clear(_folder(cohort))  # left where prepare was stopped after its last step but one
    logging.info("%s is there already, prepared with the same settings and table.", manifest.path)
    return manifest


def _tally(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{code} {count}" for code, count in counts.items()) or "none"


def _report(manifest: Manifest) -> None:
    logging.info(
        "%s: %d recordings (%d training, %d validation, %d test), %d labelled, %d positive; rejected: %s; with "
        "findings: %s.",
        manifest.folder,
        manifest.count(),
        *(manifest.count(split) for split in SPLITS),
        manifest.count(labelled=True),
        manifest.positives(),
        _tally(manifest.rejected),
        _tally(manifest.findings),
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
