"""The label of each row of a cohort's table: from a column of its own, an ejection fraction, or an echocardiogram."""

from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import pandas as pd
from absl import logging

from keras_ecg_mae.cohort.cells import read_ejection_fraction, read_label, read_moment
from keras_ecg_mae.cohort.columns import TableColumns
from keras_ecg_mae.cohort.patient_ids import list_other_spellings, read_patient_ids
from keras_ecg_mae.cohort.table_problems import UNLABELLED
from keras_ecg_mae.errors import DatasetError

LVSD = "lvsd"
NOT_USED = "not used"


@dataclass(frozen=True)
class Pairing:
    """How many ECGs were paired with an echocardiogram.

    Attributes:
        window_days: how far apart they may be.
        echoes: rows of the table of echocardiograms.
        usable_echoes: those with a patient, a date and an ejection fraction, repeated ones once.
        ecgs: ECGs to pair.
        paired: those with an echocardiogram in the window.
        same_day: those with one on the same day.
        median_days: between ECG and echocardiogram, of those that are paired; None where none is.
        without_date: ECGs without a date that can be read.
        without_echo: ECGs of patients of whom there is no usable echocardiogram.
        outside_window: ECGs of patients whose echocardiograms are all too far away.
    """

    window_days: int
    echoes: int
    usable_echoes: int
    ecgs: int
    paired: int
    same_day: int
    median_days: float | None
    without_date: int
    without_echo: int
    outside_window: int


@dataclass(frozen=True)
class Labels:
    """The labels of a table's rows.

    Attributes:
        name: `"lvsd"` where they are ejection fractions under the threshold, else the label column's name; empty
            where there are none.
        rows: of each row the `label` (0.0, 1.0), its `lvef` in percent and the `days_to_echo`, each NaN where unknown.
        pairing: how many have one, None without a table of echocardiograms.
        echoes_sha256: checksum of that table, empty without one.
    """

    name: str
    rows: pd.DataFrame
    pairing: Pairing | None = None
    echoes_sha256: str = ""


def read_labels(columns: TableColumns, patients: pd.Series, moments: pd.Series) -> Labels:
    """Reads the labels of the rows that are in `columns`.

    Sawano et al.: an ejection fraction under 40% is positive. Ranges and bounds are read by `cells.py`.

    Args:
        columns: the table.
        patients: of each row.
        moments: when each row's ECG was recorded, in days, NaN where unknown.

    Raises:
        DatasetError: a column is missing or the wrong one, or `--echoes` cannot be used.
        ConfigError: a sheet is named that `--echoes` does not have.
    """
    cohort = columns.cohort
    if cohort.echoes:
        return _from_echoes(columns, patients, moments)
    consequence = "ejection fraction unknown" if cohort.label_column else UNLABELLED
    said = _read_ejection_fractions(columns, consequence, optional=True)
    if cohort.label_column:
        label = columns.read("label_column", read_label, UNLABELLED, decides=True).astype(float)
        return Labels(cohort.label_column, _rows(label, said))
    if cohort.lvef_column not in columns.cells:
        logging.warning(
            '%s: neither a column "%s" (--lvef_column) nor a --label_column: no recording has a label, so the dataset '
            "serves pretraining only.",
            cohort.labels,
            cohort.lvef_column,
        )
        return Labels("", _rows(said, said))
    return Labels(LVSD, _rows(_by_threshold(columns, said, "lvef_column"), said))


def _from_echoes(columns: TableColumns, patients: pd.Series, moments: pd.Series) -> Labels:
    cohort = columns.cohort
    columns.required("patient_id_column")
    if cohort.lvef_column in columns.file.header:
        logging.warning('%s: the column "%s" is not used, since --echoes is.', cohort.labels, cohort.lvef_column)
    settings = ("echo_patient_id_column", "echo_date_column", "lvef_column")
    cohort = replace(cohort, echo_patient_id_column=cohort.echo_patient_id_column or cohort.patient_id_column)
    table = TableColumns(cohort, "echoes", settings, columns.problems)
    echoes = read_echoes(table)
    list_other_spellings(columns, patients, echoes["patient"])
    if not patients.isin(echoes["patient"]).any():
        raise DatasetError(
            f"{cohort.labels}: Expected patients of whom --echoes has an echocardiogram. Received no patient id that "
            "is in both tables: are the ids written alike (leading zeros, .0 at the end)?"
        )
    nearest = nearest_echo(patients, moments, echoes, cohort.echo_window_days)
    pairing = _count(patients, moments, echoes, nearest["days"], len(table.cells), cohort.echo_window_days)
    label = _by_threshold(columns, nearest["lvef"], "")
    return Labels(LVSD, _rows(label, nearest["lvef"], nearest["days"]), pairing, table.file.sha256)


def read_echoes(table: TableColumns) -> pd.DataFrame:
    """The usable rows of `--echoes`: `patient`, `moment` in days and the `EjectionFraction`, `lvef`.

    Rows without patient, date or ejection fraction are not used. Several rows of a patient with the same date and time
    are one where they agree, and none where they do not: which of two measurements counts is not for us to say.

    Raises:
        DatasetError: a column is missing or the wrong one.
    """
    table.list_rows(table.file.is_long, "", table.file.too_many_cells, NOT_USED)
    read_date = partial(read_moment, date_format=table.cohort.date_format)
    echoes = pd.DataFrame(
        {
            "patient": read_patient_ids(table, "echo_patient_id_column"),
            "moment": table.read("echo_date_column", read_date, NOT_USED, decides=True),
            "lvef": _read_ejection_fractions(table, NOT_USED),
        }
    )
    usable = echoes.dropna().drop_duplicates()
    contradicting = usable.duplicated(["patient", "moment"], keep=False)
    problem = "Expected one ejection fraction of a patient at a date and time. Received several that differ."
    table.list_rows(contradicting, "lvef_column", problem, NOT_USED)
    return usable[~contradicting]


def nearest_echo(patients: pd.Series, moments: pd.Series, echoes: pd.DataFrame, window_days: int) -> pd.DataFrame:
    """Finds the nearest echocardiogram of each ECG's patient, before it or after it.

    Distances are whole days from date to date, so that an echocardiogram without a time of day is no further than one
    with. Of two as near the earlier counts. Sawano et al. do not state their window; others took 7 days to a year.

    Args:
        patients: the patient of each ECG.
        moments: the ECG's moment in days, NaN where unknown.
        echoes: of all patients, see `read_echoes`.
        window_days: the largest distance.

    Returns:
        What the echocardiogram says, `lvef`, None where there is none; the distance, `days`, NaN where there is none.
    """
    ecgs = pd.DataFrame({"patient": patients, "day": moments}).dropna().astype({"day": int}).sort_values("day")
    day = echoes["moment"].astype(int)
    # Of a day the earliest.
    by_day = echoes.assign(day=day, echo_day=day).sort_values("moment").drop_duplicates(["patient", "day"])
    # Of two as near it takes the one before.
    nearest = pd.merge_asof(ecgs, by_day, on="day", by="patient", direction="nearest", tolerance=window_days)
    nearest = nearest.set_index(ecgs.index).reindex(patients.index)
    days = (nearest["day"] - nearest["echo_day"]).abs()
    return pd.DataFrame({"lvef": nearest["lvef"].where(days.notna(), None), "days": days})


def _count(
    patients: pd.Series, moments: pd.Series, echoes: pd.DataFrame, days: pd.Series, rows: int, window_days: int
) -> Pairing:
    dated, known, paired = moments.notna(), patients.isin(echoes["patient"]), days.notna()
    return Pairing(
        window_days=window_days,
        echoes=rows,
        usable_echoes=len(echoes),
        ecgs=len(patients),
        paired=int(paired.sum()),
        same_day=int((days == 0).sum()),
        median_days=float(days.median()) if paired.any() else None,
        without_date=int((~dated).sum()),
        without_echo=int((dated & ~known).sum()),
        outside_window=int((dated & known & ~paired).sum()),
    )


def _read_ejection_fractions(columns: TableColumns, consequence: str, *, optional: bool = False) -> pd.Series:
    read = partial(read_ejection_fraction, range_rule=columns.cohort.lvef_range)
    return columns.read("lvef_column", read, consequence, decides=True, optional=optional)


def _by_threshold(columns: TableColumns, said: pd.Series, setting: str) -> pd.Series:
    threshold = columns.cohort.lvef_threshold
    label = said.map(lambda value: value.label(threshold), na_action="ignore").astype(float)
    problem = (
        f"Expected a bound that is enough to tell whether the ejection fraction is under {threshold:g}% "
        "(--lvef_threshold). Received one that leaves it open."
    )
    columns.list_rows(said.notna() & label.isna(), setting, problem, UNLABELLED)
    return label


def _rows(label: pd.Series, said: pd.Series, days_to_echo: "pd.Series | float" = np.nan) -> pd.DataFrame:
    percent = said.map(lambda value: value.percent, na_action="ignore").astype(float)
    return pd.DataFrame({"label": label, "lvef": percent, "days_to_echo": days_to_echo})
