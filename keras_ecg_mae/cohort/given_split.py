"""The split that a cohort's table gives, in place of one at random: somebody has published it."""

import re

import pandas as pd

from keras_ecg_mae.cohort.split import TEST, TRAIN, VALIDATION
from keras_ecg_mae.cohort.table_columns import TableColumns
from keras_ecg_mae.cohort.table_problems import TableProblems
from keras_ecg_mae.config import SPLITS, Cohort
from keras_ecg_mae.errors import DatasetError

_WORDS = {
    **dict.fromkeys(("train", "training"), TRAIN),
    **dict.fromkeys(("validation", "valid", "val", "validate", "dev"), VALIDATION),
    **dict.fromkeys(("test", "testing"), TEST),
}
_WHOLE_NUMBER = re.compile(r"(\d+)\.0+", re.ASCII)
_SETTING = "split_column"
_REASON = "split"


def read_given_split(cohort: Cohort, columns: TableColumns, institution: pd.Series) -> pd.Series:
    """The split of each row of `columns`; rows whose value `--split_values` leaves out are missing from it.

    ECGs of external institutions are tested on, whatever the table says of them: in Sawano et al. institutions 2 and 3
    are divided in dataset 2, and in dataset 1 tested on as a whole.

    Args:
        cohort: the settings; `split_column` is given.
        columns: the table.
        institution: of each row.

    Raises:
        DatasetError: there is no such column, or it holds a value that is not known.
    """
    meant = {**_WORDS, **{_plain(value): split for value, split in cohort.split_meanings.items()}}
    text = columns.required(_SETTING)
    split = text.map(_plain).map(meant)
    unknown = text.index[split.isna()]
    if len(unknown):
        value = text[unknown[0]]
        raise DatasetError(
            f'{columns.file.path}, row {unknown[0]}, column "{columns.name(_SETTING)}" (--{_SETTING}): Expected '
            f"train, validation or test. Received {value!r}, and as little is known of {len(unknown):,} of "
            f"{len(text):,} rows: say what it means with --split_values={value}:train, or :validation, :test or :none."
        )
    left_out = split.index[~split.isin(SPLITS)]
    problem = "Expected a split to be used in. Received one that --split_values leaves out (none)."
    columns.problems.reject(columns.name(_SETTING), left_out, _REASON, problem)
    external = institution.isin(cohort.external_institutions)
    divided = split.index[external & split.isin([TRAIN, VALIDATION])]
    problem = "Expected the ECGs of an external institution to be tested on. Received another split."
    columns.problems.add("labels", columns.name(_SETTING), divided, problem, "tested on")
    return split.mask(external & split.isin(SPLITS), TEST).drop(left_out)


def leave_out_second_splits(cohort: Cohort, rows: pd.DataFrame, problems: TableProblems) -> pd.DataFrame:
    """The rows without those by which a patient would be in two splits.

    With `--split_patients=reject` the last of training, validation and test keeps its recordings, so that a published
    test set stays what it is.

    Args:
        cohort: the settings.
        rows: the columns `patient_id` and `split` of `cohort.Table.rows`.
        problems: where those that are left out are listed.

    Raises:
        DatasetError: a patient is in two splits, and the setting is `refuse`.
    """
    place = rows["split"].map(SPLITS.index)
    earlier = rows.index[place < place.groupby(rows["patient_id"]).transform("max")]
    if not len(earlier):
        return rows
    if cohort.split_patients == "refuse":
        patients = rows.loc[earlier, "patient_id"].nunique()
        raise DatasetError(
            f'{cohort.labels}, row {rows.loc[earlier[0], "row"]}, column "{cohort.split_column}" (--{_SETTING}): '
            f"Expected each patient in one split. Received {patients:,} in several, this row's the first: what is "
            "trained on would be tested on. --split_patients=reject leaves out their recordings of the earlier split."
        )
    problem = "Expected each patient in one split. Received this one in a later split as well (test is the last)."
    problems.reject(cohort.split_column, earlier, _REASON, problem)
    return rows.drop(earlier)


def _plain(value: str) -> str:
    """A value without what does not count in it: case, and `.0` behind a whole number."""
    return _WHOLE_NUMBER.sub(r"\1", value.casefold())
