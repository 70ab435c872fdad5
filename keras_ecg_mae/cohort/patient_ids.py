"""Whose each row is: patient ids as tables write them, and what spreadsheets have made of them."""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable

import pandas as pd

from keras_ecg_mae.cohort.table_cells import EMPTY
from keras_ecg_mae.cohort.table_columns import TableColumns
from keras_ecg_mae.errors import DatasetError

# Who stands for nobody: words, question marks, and Excel's errors in any of its languages (#REF!, #VALEUR!, #NV).
_NOBODY = re.compile(
    r"unknown|unk|unbekannt|inconnue?|desconocid[oa]|不明|anonym(?:ous)?|\?+|#+|#nv|#[^\W\d][\w/]*[!?]",
    re.IGNORECASE,
)
# As Excel shows a number of twelve digits or more, and as `table_file` writes those that it has rounded.
_ROUNDED = re.compile(r"\d(?:[.,]\d*)?E\+\d{1,3}", re.ASCII | re.IGNORECASE)
# What people and programs change of an id: zeros in front of a number, .0 behind the last, blanks and what cannot be
# seen, and what divides a letter from a number (P-001, P 1).
_CHANGED = re.compile(r"\.0+$|(?<![\d.])0+(?=\d)|[\s\u200b-\u200f\u2060\ufeff]+|(?<=[^\W\d_])[-_./]+(?=\d)")
_DIFFER = "by more than case, blanks, zeros in front or .0 behind"
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
    said = [word for word in text.unique() if word.lower() not in EMPTY and not _NOBODY.fullmatch(word)]
    rounded = text.index[text.isin([word for word in said if _ROUNDED.fullmatch(word)])]
    if len(rounded):
        rows = ", ".join(str(row) for row in rounded[:_ROWS_TOLD]) + ", ..." * (len(rounded) > _ROWS_TOLD)
        raise DatasetError(
            f'{columns.file.path}, column "{columns.name(setting)}" (--{columns.cohort.flag(setting)}): Expected '
            "patient ids as they were given. Received, in "
            f"{len(rounded):,} of {len(text):,} rows ({rows}), a number that a spreadsheet has rounded: export the "
            "ids anew, as text."
        )
    plain = {word: _plain(word) for word in said}
    several = Counter(plain.values())
    columns.problems.add(
        columns.table,
        columns.name(setting),
        text.index[text.isin([word for word in said if several[plain[word]] > 1])],
        f"Expected patient ids that differ {_DIFFER}. Received others: one patient may be in two splits.",
        "taken as different patients",
    )
    return text.where(text.isin(said))


def list_other_spellings(columns: TableColumns, patients: pd.Series, others: Iterable[str]) -> None:
    """Lists the rows of whose patient the other table has an id that differs by case, zeros in front or the like.

    Args:
        columns: of the table of ECGs.
        patients: the patient of each row.
        others: the ids in the table of echocardiograms.
    """
    spellings: dict[str, set[str]] = {}
    for other in others:
        spellings.setdefault(_plain(other), set()).add(other)
    differing = [word for word in patients.unique() if spellings.get(_plain(word), set()) - {word}]
    columns.problems.add(
        "labels",
        columns.name("patient_id_column"),
        patients.index[patients.isin(differing)],
        f"Expected patient ids that differ from those of --echoes {_DIFFER}. Received others.",
        "taken as different patients",
    )


def _plain(patient_id: str) -> str:
    return _CHANGED.sub("", unicodedata.normalize("NFKC", patient_id).casefold())
