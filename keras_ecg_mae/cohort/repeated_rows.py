"""Rows of a cohort's table that repeat or contradict one another."""

import posixpath

import pandas as pd

from keras_ecg_mae.cohort.cells import same_sex
from keras_ecg_mae.cohort.columns import TableColumns

_IN_USE = ["patient_id", "institution", "label", "lvef", "age", "sex", "split"]
_DAYS_A_YEAR = 365.25
# Ages are in whole years, and rounded up by some.
_AGE_TOLERANCE_YEARS = 2.0
# Without dates: no archive of digital ECGs goes back further.
_ARCHIVE_YEARS = 50.0


def leave_out_repeated(columns: TableColumns, rows: pd.DataFrame) -> pd.DataFrame:
    """The rows without what stands in the table twice.

    Of rows with one path that agree in all that is used of them, one stays: that of the first record id in alphabetical
    order. Where they do not agree (two ejection fractions, two patients) none does, nor do different paths under
    one record id.

    Args:
        columns: the table, where they are listed.
        rows: the columns of `read.Table.rows`.
    """
    paths = rows["path"].map(posixpath.normpath)
    different = rows[_IN_USE].assign(path=paths)[paths.duplicated(keep=False)].drop_duplicates()
    contradicting = paths.isin(different.loc[different["path"].duplicated(), "path"])
    by_record_id = paths[rows.sort_values(["record_id", "row"]).index]
    repeated = by_record_id.duplicated()[rows.index] & ~contradicting
    shared = rows["record_id"][~(contradicting | repeated)].duplicated(keep=False).reindex(rows.index, fill_value=False)
    problem = "Expected a path once. Received it in several rows that contradict one another."
    columns.leave_out(contradicting, "path_column", "contradiction", problem)
    problem = "Expected a path once. Received it again, with the same in all columns in use."
    columns.leave_out(repeated, "path_column", "repeated", problem)
    problem = "Expected a record id once. Received it for several paths."
    columns.leave_out(shared, "record_id_column", "contradiction", problem)
    return rows[~(contradicting | repeated | shared)]


def list_contradictions(columns: TableColumns, rows: pd.DataFrame) -> None:
    """Lists the rows of patients with two sexes, two birth dates, or ages that no one person can have.

    They stay: nothing is learnt from these columns. But two people may share an id, and then a split.

    Args:
        columns: the table, where they are listed.
        rows: the columns `patient_id`, `sex` and `age` of `read.Table.rows`; `moment` and `birth_date`, when the ECG
            was recorded and the patient born, in days, NaN where unknown.
    """
    patients = pd.factorize(rows["patient_id"])[0]  # once, since each grouping by text would do it again

    def spread(values: pd.Series) -> pd.Series:
        groups = values.groupby(patients)
        return groups.transform("max") - groups.transform("min")

    words = rows["sex"].map(same_sex)
    sexes = words.mask(words == "").groupby(patients).transform("nunique")
    problem = "Expected one sex of a patient. Received several."
    columns.list_rows(sexes > 1, "sex_column", problem, "kept")
    births = spread(rows["birth_date"]) > 0
    problem = "Expected one birth date of a patient. Received several."
    columns.list_rows(births, "birth_date_column", problem, "kept")
    born = rows["moment"] / _DAYS_A_YEAR - rows["age"]
    ages = (spread(born) > _AGE_TOLERANCE_YEARS) | (spread(rows["age"]) > _ARCHIVE_YEARS)
    problem = "Expected ages of a patient that one person can have. Received ages too far apart."
    columns.list_rows(ages & ~births, "age_column", problem, "kept")


def choose_one(rows: pd.DataFrame, which: str) -> pd.Index:
    """One ECG of each patient, a labelled one where there is any.

    Args:
        rows: the columns `patient_id`, `record_id` and `label` of `read.Table.rows`; `moment`, when the ECG was
            recorded, and `days_to_echo`, both in days, NaN where unknown.
        which: `"first"` or `"last"` by date, ECGs without one coming last, or `"nearest_echo"`, of equals the first.
            What is still equal is decided by the record id.
    """
    order = rows.assign(
        unlabelled=rows["label"].isna(),
        distance=rows["days_to_echo"] if which == "nearest_echo" else 0.0,
        moment=-rows["moment"] if which == "last" else rows["moment"],
    ).sort_values(["unlabelled", "distance", "moment", "record_id"], na_position="last")
    return order.index[~order["patient_id"].duplicated()].sort_values()
