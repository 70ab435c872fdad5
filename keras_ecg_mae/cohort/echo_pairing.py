"""Which echocardiogram tells the ejection fraction of which ECG, where they stand in two tables."""

from dataclasses import dataclass

import pandas as pd

from keras_ecg_mae.cohort.dates import read_moment
from keras_ecg_mae.cohort.ejection_fraction import read_ejection_fraction
from keras_ecg_mae.cohort.patient_ids import read_patient_ids
from keras_ecg_mae.cohort.table_columns import TableColumns
from keras_ecg_mae.cohort.table_file import read_table_file
from keras_ecg_mae.cohort.table_problems import TableProblems
from keras_ecg_mae.config import Cohort
from keras_ecg_mae.errors import DatasetError

_NOT_USED = "not used"


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
class Echoes:
    """The table of echocardiograms.

    Attributes:
        usable: one a row: `patient`, `moment` in days and what it says of the ejection fraction, `lvef`.
        rows: how many rows the table has.
        sha256: checksum of the file.
    """

    usable: pd.DataFrame
    rows: int
    sha256: str


def read_echoes(cohort: Cohort, problems: TableProblems) -> Echoes:
    """Reads `cohort.echoes`. Rows without patient, date or ejection fraction are not used.

    Several rows of a patient with the same date and time are one where they agree, and none where they do not:
    which of two measurements counts is not for us to say.

    Raises:
        DatasetError: the file cannot be read, or a column is missing or the wrong one.
        ConfigError: a sheet is named that it does not have.
    """
    names = {cohort.echo_patient_id_column or cohort.patient_id_column, cohort.echo_date_column, cohort.lvef_column}
    file = read_table_file(cohort.echoes, "echoes", names, "echo_sheet", cohort.echo_sheet)
    columns = TableColumns(cohort, "echoes", file, problems)
    problem = f"Expected at most {len(file.header)} cells, as in the header. Received more."
    problems.add("echoes", "", sorted(file.long_rows), problem, _NOT_USED)
    columns.drop(pd.Index(sorted(file.long_rows)))
    echoes = pd.DataFrame(
        {
            "patient": read_patient_ids(columns, "echo_patient_id_column"),
            "moment": columns.read(
                "echo_date_column", lambda text: read_moment(text, cohort.date_format), _NOT_USED, decides=True
            ),
            "lvef": columns.read(
                "lvef_column", lambda text: read_ejection_fraction(text, cohort.lvef_range), _NOT_USED, decides=True
            ),
        }
    )
    usable = echoes.dropna().drop_duplicates()
    contradicting = usable.duplicated(["patient", "moment"], keep=False)
    problems.add(
        "echoes",
        columns.name("lvef_column"),
        usable.index[contradicting],
        "Expected one ejection fraction of a patient at a date and time. Received several that differ.",
        _NOT_USED,
    )
    return Echoes(usable[~contradicting], len(file.cells), file.sha256)


def pair(
    patients: pd.Series, moments: pd.Series, echoes: Echoes, window_days: int, path: str
) -> tuple[pd.Series, pd.Series, Pairing]:
    """Finds the nearest echocardiogram of each ECG's patient, before it or after it.

    Distances are whole days from date to date, so that an echocardiogram without a time of day is no further than one
    with. Of two as near the earlier counts. Sawano et al. do not state their window; others took 7 days to a year.

    Args:
        patients: the patient of each ECG.
        moments: the ECG's moment in days, NaN where unknown.
        echoes: of all patients.
        window_days: the largest distance.
        path: the table of ECGs, for messages.

    Returns:
        What the echocardiogram says, None where there is none; the distance in days, NaN where there is none; counts.

    Raises:
        DatasetError: the tables have no patient in common.
    """
    known = patients.isin(echoes.usable["patient"])
    if not known.any():
        raise DatasetError(
            f"{path}: Expected patients of whom --echoes has an echocardiogram. Received no patient id that is in both "
            "tables: are the ids written alike (leading zeros, .0 at the end)?"
        )
    dated = moments.notna()
    ecgs = pd.DataFrame({"patient": patients, "day": moments})[dated].astype({"day": int}).sort_values("day")
    # Of a day the earliest.
    day = echoes.usable["moment"].astype(int)
    by_day = echoes.usable.assign(day=day, echo_day=day).sort_values("moment").drop_duplicates(["patient", "day"])
    # Of two as near it takes the one before.
    nearest = pd.merge_asof(ecgs, by_day, on="day", by="patient", direction="nearest", tolerance=window_days)
    nearest = nearest.set_index(ecgs.index).reindex(patients.index)
    distance_of = (nearest["day"] - nearest["echo_day"]).abs()
    paired = distance_of.notna()
    return (
        nearest["lvef"].where(paired, None),
        distance_of,
        Pairing(
            window_days=window_days,
            echoes=echoes.rows,
            usable_echoes=len(echoes.usable),
            ecgs=len(patients),
            paired=int(paired.sum()),
            same_day=int((distance_of == 0).sum()),
            median_days=float(distance_of.median()) if paired.any() else None,
            without_date=int((~dated).sum()),
            without_echo=int((dated & ~known).sum()),
            outside_window=int((dated & known & ~paired).sum()),
        ),
    )
