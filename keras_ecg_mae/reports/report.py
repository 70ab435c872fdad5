"""The report on finished runs and datasets: tables 1 to 4 and figures 1 and 3 of Sawano et al."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from keras_ecg_mae import __version__
from keras_ecg_mae.errors import DatasetError, FileError, RunError
from keras_ecg_mae.evaluation.figures import learning_curves_figure
from keras_ecg_mae.reports.clinical_parts import clinical_parts
from keras_ecg_mae.reports.cohort_tables import cohort_tables, supplementary_tables
from keras_ecg_mae.reports.comparison import Column, compare, distinct_names
from keras_ecg_mae.reports.document import Document, Part, Picture
from keras_ecg_mae.reports.fewer_labels import fewer_labels
from keras_ecg_mae.reports.finished_run import FinishedRun, read_finished_run
from keras_ecg_mae.reports.paper import FEWER_LABELS, Paper, expect_reproductions, read_paper
from keras_ecg_mae.reports.pretraining_effect import pretraining_effects
from keras_ecg_mae.reports.reconstruction_tables import reconstruction_tables
from keras_ecg_mae.reports.table_3 import cells_table, counts_table, institutions_table, sources_table, table_3
from keras_ecg_mae.reports.tripod import tripod_table

if TYPE_CHECKING:
    from keras_ecg_mae.cohort.description import CohortDescription

EVALUATION_CAPTIONS = {
    "roc": "ROC curves on the test ECGs, by institution",
    "calibration": "Calibration on the test ECGs, by pool",
}
CAPTIONS = {
    "figure_1": "Figure 1. Leads II and V5 of a recording of the validation split: original, masked and reconstructed",
    "figure_3": "Figure 3. Twelve leads of a recording of the validation split: original, masked and reconstructed",
}


def make_report(
    run_folders: Sequence[Path],
    dataset_folders: Sequence[str],
    *,
    paper_folder: Path | None = None,
    fewer: Sequence[Path] = (),
    subgroups: Sequence[str] = ("sex", "age"),
    study: Mapping[str, str] = MappingProxyType({}),
) -> Document:
    """Reads runs and datasets and lays out what is to be said of them.

    A run's own dataset is in it where it still lies where the run found it, unchanged; where not, the report says so.

    Args:
        run_folders: of finished runs, in the order of their columns.
        dataset_folders: of prepared datasets, or of tables split by `prepare --table_only`.
        paper_folder: of the paper's tables, to print its AUROCs under ours.
        fewer: a run with fewer labels and one with more, to compare at the institutions external to both. They are
            columns too. Without them, these are the runs that reproduce the paper's two, if there.
        subgroups: columns of the predictions to evaluate by.
        study: what people say of the study, see `tripod.read_study`.

    Raises:
        RunError: a run is not finished, runs cannot be compared, or one is not what its `--paper_column` says.
        DatasetError: one of `dataset_folders` holds no dataset.
    """
    known = [folder.resolve() for folder in run_folders]
    added = [folder for folder in fewer if folder.resolve() not in known]
    runs = [read_finished_run(folder) for folder in (*run_folders, *added)]
    columns = compare(runs)
    paper = None if paper_folder is None else read_paper(paper_folder)
    if paper:
        expect_reproductions(columns)
    cohorts, remarks = _cohorts(columns, dataset_folders)
    parts = []
    if columns:
        tables = (table_3(columns, paper), institutions_table(columns), counts_table(columns))
        parts.append(Part("Accuracy", tables=tables))
        if pair := _pair(columns, fewer, paper):
            parts.append(fewer_labels(*pair, paper))
        if effects := pretraining_effects(columns):
            parts.append(effects)
        if drawn := _pictures(columns, EVALUATION_CAPTIONS):
            parts.append(Part("Discrimination and calibration", pictures=tuple(drawn)))
        parts += clinical_parts(columns, subgroups)
    if cohorts or remarks:
        parts.append(Part("Cohorts", tuple(remarks), cohort_tables(cohorts)))
    if cohorts:
        parts.append(Part("Supplementary tables: who the patients are", tables=supplementary_tables(cohorts)))
    if columns:
        if curves := _learning_curves(columns):
            parts.append(Part("Learning curves", pictures=tuple(curves)))
        pictures, errors = _pictures(columns, CAPTIONS), reconstruction_tables(columns)
        if pictures or errors:
            parts.append(Part("Reconstructions", tables=errors, pictures=tuple(pictures)))
        parts.append(Part("TRIPOD+AI", tables=(tripod_table(columns, study, bool(cohorts)),)))
        parts.append(Part("Sources", tables=(sources_table(columns),)))
    now = datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M")
    title = f"Report: detection of {runs[0].trained.label}" if runs else "Report: cohorts"
    origin = f"Made by keras_ecg_mae {__version__} on {now} UTC."
    return Document(title, origin, tuple(parts), (cells_table(columns, paper),) if columns else ())


def _pair(columns: Sequence[Column], fewer: Sequence[Path], paper: Paper | None) -> tuple[Column, Column] | None:
    """The columns to compare for `fewer_labels`: those asked for, or the paper's two where a run reproduces each."""
    if fewer:
        by_folder = {column.run.folder.resolve(): column for column in columns}
        return by_folder[fewer[0].resolve()], by_folder[fewer[1].resolve()]
    first, second = (
        [column for column in columns if paper and column.run.paper_column == name] for name in FEWER_LABELS
    )
    if len(first) > 1 or len(second) > 1:
        raise RunError(
            f"Expected one run of each column {' and '.join(FEWER_LABELS)} of the paper's table 3. Received "
            f"{', '.join(str(column.run.folder) for column in (*first, *second))}: name the two to compare with "
            "--fewer_labels=RUN_A,RUN_B."
        )
    return (first[0], second[0]) if first and second else None


def _cohorts(columns: Sequence[Column], folders: Sequence[str]) -> tuple[dict[str, "CohortDescription"], list[str]]:
    """What the datasets hold, by a short name; and which datasets of runs there are no tables of, and why."""
    cohorts: dict[str, CohortDescription] = {}
    remarks = []
    runs: dict[str, FinishedRun] = {}
    for column in columns:
        runs.setdefault(column.dataset, column.run)
    for name, run in runs.items():
        found = _dataset_of(run)
        if isinstance(found, str):
            remarks.append(f"No tables of {name}, the dataset of {run.folder}: {found}")
        else:
            cohorts[name] = found
    shown = {Path(run.dataset.folder).resolve() for name, run in runs.items() if name in cohorts}
    given = [folder for folder in dict.fromkeys(folders) if Path(folder).resolve() not in shown]
    names = distinct_names([*given, *(run.dataset.folder for run in runs.values())])
    for name, folder in zip(names[: len(given)], given, strict=True):
        from keras_ecg_mae.dataset.manifest import read_cohort

        # A run's dataset that is shown is none of `given`; where it is not, another one lies in its folder now.
        changed = any(Path(folder).resolve() == Path(run.dataset.folder).resolve() for run in runs.values())
        cohorts[f"{name} (as it is now)" if changed else name] = read_cohort(folder)
    return cohorts, remarks


def _dataset_of(run: FinishedRun) -> "CohortDescription | str":
    """A run's dataset as it was, or why it cannot be had; TensorFlow is loaded only to read one."""
    folder = run.dataset.folder
    if "://" not in folder and not Path(folder).is_dir():
        return f"{folder} is no folder on this machine."
    from keras_ecg_mae.dataset.manifest import read_manifest

    try:
        manifest = read_manifest(folder)
    except (DatasetError, FileError) as error:
        return str(error)
    if manifest.digest != run.dataset.sha256:
        return f"{folder} has the checksum {manifest.digest} now, not {run.dataset.sha256}."
    return manifest


def _learning_curves(columns: Sequence[Column]) -> list[Picture]:
    """Of each run; a column's number is in the file's name."""
    return [
        Picture(
            f"learning_curves_{number}",
            f"Learning curves. {column.name}.",
            learning_curves_figure(column.run.pretraining_rows, column.run.finetuning_rows),
        )
        for number, column in enumerate(columns, start=1)
        if column.run.finetuning_rows
    ]


def _pictures(columns: Sequence[Column], captions: Mapping[str, str]) -> list[Picture]:
    """Those of each run's `pictures` that have a caption; a column's number is in the file's name."""
    pictures = []
    for key, caption in captions.items():
        for number, column in enumerate(columns, start=1):
            if path := column.run.pictures.get(key):
                of_validation = key in CAPTIONS and column.run.learnt_from_validation
                learnt = " Pretraining has learnt from it." if of_validation else ""
                text = f"{caption}. {column.name}.{learnt}"
                pictures.append(Picture(f"{key}_{number}", text, path.read_bytes()))
    return pictures
