"""Rows of a cohort's table that repeat or contradict one another."""

import posixpath

import numpy as np
import pandas as pd

from keras_ecg_mae.cohort.table_cells import same_sex
from keras_ecg_mae.cohort.table_problems import TableProblems

_KEPT = "kept"
_SAID = ["patient_id", "institution", "label", "lvef", "age", "sex", "split"]
_DAYS_A_YEAR = 365.25
# Ages are in whole years, and rounded up by some.
_AGE_TOLERANCE_YEARS = 2.0
# Without dates: no archive of digital ECGs goes back further.
_ARCHIVE_YEARS = 50.0


def reject_repeated(rows: pd.DataFrame, problems: TableProblems, path_column: str, record_id_column: str) -> pd.Index:
    """Rejects what stands in the table twice.

    Of rows with one path that agree in all that is used of them, one stays: that of the first record id in alphabetical
    order. Where they do not agree (two ejection fractions, two patients) none does, nor do different paths under
    one record id.

    Args:
        rows: the columns of `cohort.Table.rows`.
        problems: where they are listed.
        path_column, record_id_column: the columns' names in the table.

    Returns:
        The rows that are rejected, as they are in the index.
    """
    paths = rows["path"].map(posixpath.normpath)
    several = rows[paths.duplicated(keep=False)]
    rejected: set[int] = set()
    if len(several):
        kinds = several[_SAID].assign(path=paths).drop_duplicates()
        contradicted = set(kinds.loc[kinds["path"].duplicated(keep=False), "path"])
        is_contradicted = paths[several.index].isin(contradicted)
        contradicting = several.index[is_contradicted]
        agreeing = several[~is_contradicted].sort_values(["record_id", "row"])
        repeated = agreeing.index[paths[agreeing.index].duplicated()].sort_values()
        problem = "Expected a path once. Received it in several rows that contradict one another."
        problems.reject(path_column, contradicting, "contradiction", problem)
        problem = "Expected a path once. Received it again, with the same in all columns in use."
        problems.reject(path_column, repeated, "repeated", problem)
        rejected = {*contradicting, *repeated}
    left = rows["record_id"].drop(list(rejected))
    shared = left.index[left.duplicated(keep=False)]
    problem = "Expected a record id once. Received it for several paths."
    problems.reject(record_id_column, shared, "contradiction", problem)
    return pd.Index(sorted({*rejected, *shared}))


def list_contradictions(rows: pd.DataFrame, problems: TableProblems, names: dict[str, str]) -> None:
    """Lists the rows of patients with two sexes, two birth dates, or ages that no one person can have.

    They stay: nothing is learnt from these columns. But two people may share an id, and then a split.

    Args:
        rows: the columns `patient_id`, `sex` and `age` of `cohort.Table.rows`; `moment` and `birth_date`, when the ECG
            was recorded and the patient born, in days, NaN where unknown.
        problems: where they are listed.
        names: of the columns `sex`, `age` and `birth_date` in the table.
    """
    patients = pd.factorize(rows["patient_id"])[0]  # once, since each grouping by text would do it again

    def spread(values: pd.Series) -> pd.Series:
        groups = values.groupby(patients)
        return groups.transform("max") - groups.transform("min")

    def add(name: str, doubtful: pd.Series, problem: str) -> None:
        problems.add("labels", names[name], rows.index[doubtful], problem, _KEPT)

    words = rows["sex"].map(same_sex)
    sexes = words.mask(words == "").groupby(patients).transform("nunique")
    add("sex", sexes > 1, "Expected one sex of a patient. Received several.")
    births = spread(rows["birth_date"]) > 0
    add("birth_date", births, "Expected one birth date of a patient. Received several.")
    born = rows["moment"] / _DAYS_A_YEAR - rows["age"]
    aged = (spread(born) > _AGE_TOLERANCE_YEARS) | (spread(rows["age"]) > _ARCHIVE_YEARS)
    add("age", aged & ~births, "Expected ages of a patient that one person can have. Received ages too far apart.")


def choose_one(rows: pd.DataFrame, which: str) -> pd.Index:
    """One ECG of each patient, a labelled one where there is any.

    Args:
        rows: the columns `patient_id`, `record_id` and `label` of `cohort.Table.rows`; `moment`, when the ECG was
            recorded, and `days_to_echo`, both in days, NaN where unknown.
        which: `"first"` or `"last"` by date, ECGs without one coming last, or `"nearest_echo"`, of equals the first.
            What is still equal is decided by the record id.
    """
    order = pd.DataFrame(
        {
            "unlabelled": rows["label"].isna(),
            "distance": rows["days_to_echo"].fillna(np.inf) if which == "nearest_echo" else 0.0,
            "moment": (-rows["moment"] if which == "last" else rows["moment"]).fillna(np.inf),
            "record_id": rows["record_id"],
        }
    ).sort_values(["unlabelled", "distance", "moment", "record_id"])
    patients = rows["patient_id"][order.index]
    return patients.index[~patients.duplicated()].sort_values()
