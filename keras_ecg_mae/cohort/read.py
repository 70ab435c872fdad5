"""The table of a cohort: one row a recording, checked and brought into one form before any recording is opened."""

import hashlib
import re
import unicodedata
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from keras_ecg_mae.cohort.cells import OLDEST, read_age, read_moment, read_sex, years_between
from keras_ecg_mae.cohort.columns import TableColumns, is_empty
from keras_ecg_mae.cohort.labels import Labels, read_labels
from keras_ecg_mae.cohort.patient_ids import read_patient_ids
from keras_ecg_mae.cohort.repeated_rows import choose_one, leave_out_repeated, list_contradictions
from keras_ecg_mae.cohort.split import leave_out_second_splits, read_given_split
from keras_ecg_mae.cohort.table_problems import TableProblems
from keras_ecg_mae.config import Cohort
from keras_ecg_mae.errors import ConfigError, DatasetError

ONLY_INSTITUTION = "all"
# Before a record id in place of a patient's. No cell begins with a blank, so no patient has such an id.
_OWN_PATIENT = " "
_ALONE = "taken as a patient of its own"
# A folder's name on every system and object store, and without the comma that separates names in a flag.
_FOLDER_NAME = re.compile(r"\w[\w .-]{0,99}(?<![ .])")
_RESERVED_NAMES = {"manifest.json", "rejected.csv", "table_problems.csv", "cohort.html", "cohort.json", "unfinished"}
_SEPARATORS = re.compile(r"[\s_.-]+")
# More are no institutions: the column is another one, and what it holds would become the names of folders.
_MOST_INSTITUTIONS = 1000
_AGE_UNKNOWN = "age unknown"
_IN_USE = (
    *("path_column", "record_id_column", "patient_id_column", "institution_column", "lvef_column", "label_column"),
    *("age_column", "birth_date_column", "sex_column", "ecg_date_column", "split_column"),
)
_ROWS = ["row", "path", "record_id", "patient_id", "institution", "label", "lvef", "age", "sex", "split"]


@dataclass(frozen=True)
class Table:
    """A cohort's table in the package's own form.

    Attributes:
        rows: one row a recording with the columns `row` (its number in the sheet), `path`, `record_id`, `patient_id`,
            `institution`, `sex` (text, sex may be empty), `split` (empty without `--split_column`), `label` (0.0, 1.0,
            NaN where unknown), `lvef` (percent) and `age` (years), both NaN where unknown. Dates are not among them.
        label_name: `"lvsd"` where the label is an ejection fraction under the threshold, else the label column's
            name; empty where the table has neither.
        sha256: checksum of the file, or of both with a table of echocardiograms.
        rejected: rows that are left out: `path`, `reason` (see `errors.REASONS`) and `detail`.
        problems: what is wrong with single rows and cells, those left out included.
        summary: for the manifest: how many `rows` the table has, how many recordings of it count as patients of their
            own since they are `without_patient_id`, how many were `not_chosen` by `--ecgs_per_patient`, counts of
            `problems`, and the `pairing` or None.
    """

    rows: pd.DataFrame
    label_name: str
    sha256: str
    rejected: pd.DataFrame
    problems: TableProblems
    summary: Mapping[str, Any]


def read_table(cohort: Cohort) -> Table:
    """Reads `cohort.labels`, and `cohort.echoes` where it is given.

    A patient is known by `patient_id` over the whole table, whatever the institution; a recording without one is
    its own patient, takes nobody's echocardiogram, and is listed. A row that cannot be used is left out and listed, and
    a cell that cannot be read is listed. What would make the whole result wrong ends it: a column that is missing, or
    decides the result and cannot be read in more than half of its cells; patient ids that were rounded.

    Raises:
        DatasetError: a file cannot be read, a column is missing or the wrong one, no row can be used, or a patient is
            in two splits.
        ConfigError: an external institution that the table does not have, or a sheet.
    """
    problems = TableProblems()
    columns = TableColumns(cohort, "labels", _IN_USE, problems)
    file = columns.file
    _leave_out_unnamed(columns)
    columns.institution = institution = _institutions(columns)
    _expect_any(columns)
    _expect_external(cohort, institution)
    split = read_given_split(columns, institution) if cohort.split_column else ""
    _expect_any(columns)
    rows, labels = _rows(columns, institution, split)
    rows = leave_out_repeated(columns, rows)
    _expect_any(columns)
    list_contradictions(columns, rows)
    if cohort.age_cap:
        rows = rows.assign(age=rows["age"].clip(upper=cohort.age_cap))
    chosen = rows if cohort.ecgs_per_patient == "all" else rows.loc[choose_one(rows, cohort.ecgs_per_patient)]
    not_chosen = len(rows) - len(chosen)
    if cohort.split_column:
        chosen = leave_out_second_splits(columns, chosen)
    problems.log(cohort.labels)
    sha256 = file.sha256
    if labels.echoes_sha256:
        sha256 = hashlib.sha256((file.sha256 + labels.echoes_sha256).encode()).hexdigest()
    rejected = problems.rejected()
    rejected.insert(0, "path", list(file.cells[cohort.path_column][rejected["row"]]))
    return Table(
        rows=chosen[_ROWS].reset_index(drop=True),
        label_name=labels.name,
        sha256=sha256,
        rejected=rejected[["path", "reason", "detail"]].reset_index(drop=True),
        problems=problems,
        summary={
            "rows": len(file.cells),
            "without_patient_id": int(chosen["patient_id"].str.startswith(_OWN_PATIENT).sum()),
            "not_chosen": not_chosen,
            "problems": [asdict(count) for count in problems.counts()],
            "pairing": None if labels.pairing is None else asdict(labels.pairing),
        },
    )


def _leave_out_unnamed(columns: TableColumns) -> None:
    """Leaves out the rows that name no recording, or whose cells stand under the wrong names."""
    columns.leave_out(columns.file.is_long, "", "table_row", columns.file.too_many_cells)
    # Windows divides folders by backslashes.
    path = columns.required("path_column").str.replace("\\", "/", regex=False)
    columns.cells = columns.cells.assign(**{columns.name("path_column"): path})
    is_unnamed = (path == "") | path.str.contains("\0", regex=False)
    columns.leave_out(is_unnamed, "path_column", "table_row", "Expected a path. Received none.")
    problem = "Expected a path relative to --recordings. Received one that begins with a drive or a server."
    columns.leave_out(path.str.contains("^(?:[A-Za-z]:/|//)"), "path_column", "outside_root", problem)


def _institutions(columns: TableColumns) -> pd.Series:
    """The institution of each row; rows without one are left out.

    Raises:
        DatasetError: one institution in two spellings, or so many that they are none.
    """
    cohort, text = columns.cohort, columns.text("institution_column")
    if text is None:
        return pd.Series(ONLY_INSTITUTION, columns.cells.index)
    where = f'{cohort.labels}, column "{cohort.institution_column}" (--{Cohort.flag("institution_column")})'
    names = text.map(partial(unicodedata.normalize, "NFC"))
    usable = sorted(
        name
        for name in names[~is_empty(names)].unique()
        if _FOLDER_NAME.fullmatch(name) and name not in _RESERVED_NAMES
    )
    if len(usable) > _MOST_INSTITUTIONS:
        raise DatasetError(f"{where}: Expected at most {_MOST_INSTITUTIONS:,} institutions. Received {len(usable):,}.")
    # One folder on a disk that does not tell upper from lower case, so a shard would overwrite another; and of two
    # spellings one alone would be among --external_institutions.
    spellings: dict[str, str] = {}
    for name in usable:
        first = spellings.setdefault(_SEPARATORS.sub(" ", name.casefold()), name)
        if first != name:
            row = (names == name).idxmax()
            raise DatasetError(f"{where}, row {row}: Expected one spelling, {first!r}. Received {name!r}.")
    is_unusable = ~names.isin(usable)
    problem = "Expected a name that can be a folder's (letters, digits, spaces and . _ -). Received another or none."
    if usable and is_unusable.mean() > 0.5:
        raise DatasetError(
            f"{where}, row {is_unusable.idxmax()}: {problem} So it is in {is_unusable.sum():,} of {len(names):,} rows: "
            "is it the right column?"
        )
    columns.leave_out(is_unusable, "institution_column", "institution", problem)
    return names[~is_unusable]


def _expect_external(cohort: Cohort, institution: pd.Series) -> None:
    known = sorted(institution.unique())
    for name in cohort.external_institutions:
        if name not in known:
            raise ConfigError(
                f"Expected --external_institutions to be among {', '.join(known)} ({cohort.labels}). Received {name!r}."
            )


def _expect_any(columns: TableColumns) -> None:
    """Raises `DatasetError` where all rows are left out."""
    if columns.cells.empty:
        problems = columns.problems
        tally = ", ".join(f"{reason} {count:,}" for reason, count in sorted(problems.tally().items()))
        raise DatasetError(
            f"{columns.cohort.labels}: Expected at least one usable row. Received none: all "
            f"{len(columns.file.cells):,} are left out ({tally}), the first because: "
            f"{problems.rejected()['detail'].iloc[0]}"
        )


def _rows(columns: TableColumns, institution: pd.Series, split: "pd.Series | str") -> tuple[pd.DataFrame, Labels]:
    """`Table.rows` before any is left out or chosen, with the moments that are not to stay; and the labels."""
    path = columns.required("path_column")
    record_id = columns.text("record_id_column")
    record_id = path if record_id is None else record_id.where(record_id != "", path)
    patient_id = _patients(columns, record_id)
    moment, birth = _dates(columns)
    labels = read_labels(columns, patient_id, moment)
    age = _ages(columns, moment, birth)
    sex = columns.read("sex_column", read_sex, "sex unknown", decides=False, optional=True)
    rows = pd.DataFrame(
        {
            "row": path.index,
            "path": path,
            "record_id": record_id,
            "patient_id": patient_id,
            "institution": institution,
            "age": age,
            "sex": sex.astype(object).fillna(""),
            "split": split,
            "moment": moment,
            "birth_date": birth,
        },
        index=path.index,
    )
    return rows.join(labels.rows), labels


def _patients(columns: TableColumns, record_id: pd.Series) -> pd.Series:
    """Whose each recording is."""
    setting = "patient_id_column"
    name, flag = columns.name(setting), columns.cohort.flag(setting)
    ids = None if columns.text(setting) is None else read_patient_ids(columns, setting)
    if ids is None or ids.isna().all():
        problem = f"Expected patient ids (--{flag}). Received none: what is trained on may be of those tested on."
        # Of the header's row: a line for each of a million rows would say no more.
        columns.problems.add("labels", name, [1], problem, f"each recording {_ALONE}")
        return _OWN_PATIENT + record_id
    columns.list_rows(ids.isna(), setting, "Expected a patient id. Received none.", _ALONE)
    return ids.fillna(_OWN_PATIENT + record_id)


def _dates(columns: TableColumns) -> tuple[pd.Series, pd.Series]:
    """When each ECG was recorded and its patient born, in days; NaN where unknown, or where no setting needs it."""
    cohort = columns.cohort
    read_date = partial(read_moment, date_format=cohort.date_format)
    moment = birth = pd.Series(np.nan, columns.cells.index)
    if cohort.birth_date_column or cohort.echoes or cohort.ecgs_per_patient != "all":
        moment = columns.read("ecg_date_column", read_date, "date unknown", decides=True).astype(float)
    if cohort.birth_date_column:
        birth = columns.read("birth_date_column", read_date, _AGE_UNKNOWN, decides=False).astype(float)
    return moment, birth


def _ages(columns: TableColumns, moment: pd.Series, birth: pd.Series) -> pd.Series:
    """Ages in completed years at the ECG, from the birth date where that is known, else from the column of ages."""
    ages = columns.read("age_column", read_age, _AGE_UNKNOWN, decides=False, optional=True).astype(float)
    both = moment.notna() & birth.notna()
    years = pd.Series(map(years_between, birth[both], moment[both]), both.index[both], dtype=float)
    is_wrong = ~years.between(0, OLDEST)
    problem = f"Expected a birth date 0 to {OLDEST} years before the ECG's date. Received another."
    columns.list_rows(is_wrong, "birth_date_column", problem, _AGE_UNKNOWN)
    return years[~is_wrong].reindex(ages.index).fillna(ages)
