"""Preparing a dataset: from a table and a folder of recordings to TFRecord shards and their manifest."""

import os
import platform
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib import metadata
from typing import Any

import pandas as pd
from absl import logging

from keras_ecg_mae.cohort.description import CohortDescription, describe
from keras_ecg_mae.cohort.patient_key import PatientKeys, create_keys, read_keys, secret_path
from keras_ecg_mae.cohort.read import Table, read_table
from keras_ecg_mae.cohort.split import assign_splits
from keras_ecg_mae.config import SPLITS, Cohort, Quality, Section, Signal
from keras_ecg_mae.dataset.duplicates import DUPLICATE, find_duplicates, removal_tasks
from keras_ecg_mae.dataset.gathering import gather
from keras_ecg_mae.dataset.lists import write_rejected, write_reports
from keras_ecg_mae.dataset.manifest import COHORT, FORMAT, MANIFEST, REJECTED, Manifest, read_manifest, write_cohort
from keras_ecg_mae.dataset.plan import plan_shards, shard_tasks
from keras_ecg_mae.dataset.shard import remove_recordings, write_shard
from keras_ecg_mae.dataset.unfinished import (
    begin,
    check_unfinished,
    clear,
    differences,
    discard,
    refuse_foreign,
    still_to_write,
)
from keras_ecg_mae.dataset.work import work_on
from keras_ecg_mae.errors import ConfigError, DatasetError
from keras_ecg_mae.files import storage_path

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
    plans = plan_shards(cohort, rows)
    identity = begin(folder, identity)
    waiting = still_to_write(folder, plans, rows["path"], cohort.recordings)
    tasks = shard_tasks(folder, waiting, rows, cohort=cohort, signal=signal, quality=quality, keys=keys)
    work_on(write_shard, tasks, cohort, runner_arguments, total=len(rows), done=len(rows) - sum(map(len, waiting)))
    duplicates = find_duplicates(folder, plans)
    if DUPLICATE in quality.reject:
        removals = removal_tasks(folder, plans, duplicates)
        work_on(remove_recordings, removals, cohort, runner_arguments, total=sum(map(len, removals)))
    gathered = gather(folder, rows, plans, duplicates)
    write_rejected(folder, table, gathered.rejected)
    description = _describe(
        cohort, table, rows[gathered.accepted], gathered.rejected, gathered.findings, identity["settings"]
    )
    if description.count() == 0:
        discard(folder, (plan.file for plan in plans))
        count = sum(description.rejected.values())
        raise DatasetError(
            f"{cohort.labels}: Expected at least one usable recording. Received none: all {count} were rejected "
            f"({_tally(description.rejected)}), the first, {rows['path'][0]}, because: {gathered.rejected[0][1]} "
            f"See {folder}/{REJECTED}."
        )
    write_reports(folder, table, description, "The cohort of a dataset")
    del identity["format"], identity["settings"]  # which the manifest has by itself
    manifest = Manifest(folder=cohort.output, **vars(description), shards=gathered.shards, **identity)
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
    description = _describe(cohort, table, _split(cohort, table), {}, {}, _settings(cohort))
    write_rejected(folder, table, {})
    write_reports(folder, table, description, "The cohort of a table, before any recording was opened")
    write_cohort(folder, description, table_sha256=table.sha256)
    return description


def _describe(
    cohort: Cohort,
    table: Table,
    rows: pd.DataFrame,
    rejected: Mapping[int, tuple[str, str]],
    findings: Mapping[str, int],
    settings: Mapping[str, Any],
) -> CohortDescription:
    """Who is in `rows`, how many recordings were left out, by the table itself too, and what was found in the rest."""
    reasons = Counter(reason for reason, _ in rejected.values()) + table.problems.tally()
    return replace(
        describe(rows, table.label_name, cohort.external_institutions),
        rejected=dict(sorted(reasons.items())),
        findings=findings,
        table=table.summary,
        settings=settings,
    )


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
