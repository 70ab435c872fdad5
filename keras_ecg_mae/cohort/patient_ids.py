"""Whose each row is: patient ids as tables write them, and what spreadsheets have made of them."""

import re
import unicodedata

import pandas as pd

from keras_ecg_mae.cohort.cells import EMPTY
from keras_ecg_mae.cohort.columns import TableColumns
from keras_ecg_mae.errors import DatasetError

# Who stands for nobody: words, question marks, and Excel's errors in any of its languages (#REF!, #VALEUR!, #NV).
_NOBODY = re.compile(
    r"unknown|unk|unbekannt|inconnue?|desconocid[oa]|不明|anonym(?:ous)?|\?+|#+|#nv|#[^\W\d][\w/]*[!?]",
    re.IGNORECASE,
)
# As Excel shows a number of twelve digits or more, and as `table.py` writes those that it has rounded.
_ROUNDED = re.compile(r"\d(?:[.,]\d*)?E\+\d{1,3}", re.ASCII | re.IGNORECASE)
# What people and programs change of an id: zeros in front of a number, .0 behind the last, blanks and what cannot be
# seen, and what divides a letter from a number (P-001, P 1).
_CHANGED = re.compile(r"\.0+$|(?<![\d.])0+(?=\d)|[\s\u200b-\u200f\u2060\ufeff]+|(?<=[^\W\d_])[-_./]+(?=\d)")
_DIFFER = "by more than case, blanks, zeros in front or .0 behind"
_AS_DIFFERENT = "taken as different patients"
_ROWS_TOLD = 10


def read_patient_ids(columns: TableColumns, setting: str) -> pd.Series:
    """The id in each row, NaN where there is none. Ids that may be one patient's in two spellings are listed.

    Args:
        columns: the table.
        setting: the column.

    Raises:
        DatasetError: there is no such column, or a spreadsheet has rounded some ids: several patients' may be one now,
            so that neither the split nor the pairing could be right.
    """
    text = columns.required(setting)
    ids = pd.Series([word for word in text.unique() if word.lower() not in EMPTY and not _NOBODY.fullmatch(word)])
    rounded = text.index[text.isin(ids[[bool(_ROUNDED.fullmatch(word)) for word in ids]])]
    if len(rounded):
        rows = ", ".join(str(row) for row in rounded[:_ROWS_TOLD]) + ", ..." * (len(rounded) > _ROWS_TOLD)
        raise DatasetError(
            f'{columns.file.path}, column "{columns.name(setting)}" (--{columns.cohort.flag(setting)}): Expected '
            f"patient ids as they were given. Received, in {len(rounded):,} of {len(text):,} rows ({rows}), a number "
            "that a spreadsheet has rounded: export the ids anew, as text."
        )
    in_several_spellings = ids[ids.map(_plain).duplicated(keep=False)]
    problem = f"Expected patient ids that differ {_DIFFER}. Received others: one patient may be in two splits."
    columns.list_rows(text.isin(in_several_spellings), setting, problem, _AS_DIFFERENT)
    return text.where(text.isin(ids))


def list_other_spellings(columns: TableColumns, patients: pd.Series, others: pd.Series) -> None:
    """Lists the rows of whose patient the other table has an id that differs by case, zeros in front or the like.

    Args:
        columns: of the table of ECGs.
        patients: the patient of each row.
        others: the ids in the table of echocardiograms.
    """
    one, other = pd.Series(patients.unique(), name="one"), pd.Series(others.unique(), name="other")
    pairs = pd.merge(one, other, left_on=one.map(_plain), right_on=other.map(_plain))
    differing = pairs.loc[pairs["one"] != pairs["other"], "one"]
    problem = f"Expected patient ids that differ from those of --echoes {_DIFFER}. Received others."
    columns.list_rows(patients.isin(differing), "patient_id_column", problem, _AS_DIFFERENT)


def _plain(patient_id: str) -> str:
    return _CHANGED.sub("", unicodedata.normalize("NFKC", patient_id).casefold())
