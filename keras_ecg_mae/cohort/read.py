"""The table of a cohort: one row a recording, checked and brought into one form before any recording is opened."""

import hashlib
import re
import unicodedata
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd

from keras_ecg_mae.cohort.dates import read_moment, years_between
from keras_ecg_mae.cohort.given_split import leave_out_second_splits, read_given_split
from keras_ecg_mae.cohort.labels import Labels, read_labels
from keras_ecg_mae.cohort.patient_ids import read_patient_ids
from keras_ecg_mae.cohort.repeated_rows import choose_one, list_contradictions, reject_repeated
from keras_ecg_mae.cohort.table_cells import OLDEST, read_age, read_sex
from keras_ecg_mae.cohort.table_columns import TableColumns, is_empty
from keras_ecg_mae.cohort.table_file import TableFile, read_table_file
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
    wanted = {getattr(cohort, setting) for setting in _IN_USE}
    file = read_table_file(cohort.labels, "labels", wanted, "labels_sheet", cohort.labels_sheet)
    problems = TableProblems()
    columns = TableColumns(cohort, "labels", file, problems)
    _leave_out_unnamed(columns)
    institution = _institutions(cohort, columns)
    _expect_any(cohort, file, columns.cells, problems)
    _expect_external(cohort, institution)
    split = pd.Series("", columns.cells.index)
    if cohort.split_column:
        split = read_given_split(cohort, columns, institution)
        columns.drop(columns.cells.index.difference(split.index))
        _expect_any(cohort, file, columns.cells, problems)
    columns.institution = institution
    rows, labels = _rows(cohort, columns, institution[split.index], split)
    rows = rows.drop(reject_repeated(rows, problems, columns.name("path_column"), columns.name("record_id_column")))
    list_contradictions(rows, problems, {name: columns.name(f"{name}_column") for name in ("sex", "age", "birth_date")})
    if cohort.age_cap:
        rows = rows.assign(age=rows["age"].clip(upper=cohort.age_cap))
    chosen = rows if cohort.ecgs_per_patient == "all" else rows.loc[choose_one(rows, cohort.ecgs_per_patient)]
    _expect_any(cohort, file, chosen, problems)
    if cohort.split_column:
        chosen = leave_out_second_splits(cohort, chosen, problems)
    problems.log(cohort.labels)
    sha256 = file.sha256
    if labels.echoes_sha256:
        sha256 = hashlib.sha256((file.sha256 + labels.echoes_sha256).encode()).hexdigest()
    return Table(
        rows=chosen[_ROWS].reset_index(drop=True),
        label_name=labels.name,
        sha256=sha256,
        rejected=_rejected(cohort, file, problems),
        problems=problems,
        summary={
            "rows": len(file.cells),
            "without_patient_id": int(chosen["patient_id"].str.startswith(_OWN_PATIENT).sum()),
            "not_chosen": len(rows) - len(chosen),
            "problems": [asdict(count) for count in problems.counts()],
            "pairing": None if labels.pairing is None else asdict(labels.pairing),
        },
    )


def _leave_out_unnamed(columns: TableColumns) -> None:
    """Leaves out the rows that name no recording, or whose cells stand under the wrong names."""
    long_rows = pd.Index(sorted(columns.file.long_rows))
    problem = f"Expected at most {len(columns.file.header)} cells, as in the header. Received more."
    columns.problems.reject("", long_rows, "table_row", problem)
    columns.drop(long_rows)
    name = columns.name("path_column")
    # Windows divides folders by backslashes.
    path = columns.required("path_column").str.replace("\\", "/", regex=False)
    columns.cells = columns.cells.assign(**{name: path})
    unnamed = path.index[(path == "") | path.str.contains("\0", regex=False)]
    columns.problems.reject(name, unnamed, "table_row", "Expected a path. Received none.")
    absolute = path.index[path.str.contains("^(?:[A-Za-z]:/|//)")]
    problem = "Expected a path relative to --recordings. Received one that begins with a drive or a server."
    columns.problems.reject(name, absolute, "outside_root", problem)
    columns.drop(unnamed.union(absolute))


def _institutions(cohort: Cohort, columns: TableColumns) -> pd.Series:
    """The institution of each row; rows without one are left out.

    Raises:
        DatasetError: one institution in two spellings, or so many that they are none.
    """
    text = columns.text("institution_column")
    if text is None:
        names = pd.Series(ONLY_INSTITUTION, columns.cells.index)
    else:
        names = text.map(lambda name: unicodedata.normalize("NFC", name))
        said = set(names[~is_empty(names)])
        usable = {name for name in said if _FOLDER_NAME.fullmatch(name) and name not in _RESERVED_NAMES}
        where = f'{cohort.labels}, column "{cohort.institution_column}" (--{Cohort.flag("institution_column")})'
        if len(usable) > _MOST_INSTITUTIONS:
            raise DatasetError(
                f"{where}: Expected at most {_MOST_INSTITUTIONS:,} institutions. Received {len(usable):,}."
            )
        # One folder on a disk that does not tell upper from lower case, so a shard would overwrite another; and of two
        # spellings one alone would be among --external_institutions.
        spellings: dict[str, str] = {}
        for name in sorted(usable):
            first = spellings.setdefault(_SEPARATORS.sub(" ", name.casefold()), name)
            if first != name:
                row = (names == name).idxmax()
                raise DatasetError(f"{where}, row {row}: Expected one spelling, {first!r}. Received {name!r}.")
        unusable = names.index[~names.isin(usable)]
        problem = (
            "Expected a name that can be a folder's (letters, digits, spaces and . _ -). Received another or none."
        )
        if usable and len(unusable) > len(names) / 2:
            raise DatasetError(
                f"{where}, row {unusable[0]}: {problem} So it is in {len(unusable):,} of {len(names):,} rows: is it "
                "the right column?"
            )
        columns.problems.reject(columns.name("institution_column"), unusable, "institution", problem)
        columns.drop(unusable)
        names = names.drop(unusable)
    return names


def _expect_external(cohort: Cohort, institution: pd.Series) -> None:
    known = sorted(institution.unique())
    for name in cohort.external_institutions:
        if name not in known:
            raise ConfigError(
                f"Expected --external_institutions to be among {', '.join(known)} ({cohort.labels}). Received {name!r}."
            )


def _rows(
    cohort: Cohort, columns: TableColumns, institution: pd.Series, split: pd.Series
) -> tuple[pd.DataFrame, Labels]:
    """`Table.rows` before any is left out or chosen, with the moments that are not to stay; and the labels."""
    path = columns.required("path_column")
    record_id = columns.text("record_id_column")
    record_id = path if record_id is None else record_id.where(record_id != "", path)
    patient_id = _patients(columns, record_id)
    moment, birth = _dates(cohort, columns)
    labels = read_labels(cohort, columns, patient_id, moment)
    rows = pd.DataFrame(
        {
            "row": path.index,
            "path": path,
            "record_id": record_id,
            "patient_id": patient_id,
            "institution": institution,
            "label": labels.label,
            "lvef": labels.lvef,
            "age": _ages(columns, moment, birth),
            "sex": "",
            "split": split,
            "moment": moment,
            "birth_date": birth,
            "days_to_echo": labels.days_to_echo,
        }
    )
    if columns.text("sex_column") is not None:
        rows["sex"] = columns.read("sex_column", read_sex, "sex unknown", decides=False).astype(object).fillna("")
    return rows, labels


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
    alone = ids.index[ids.isna()]
    columns.problems.add("labels", name, alone, "Expected a patient id. Received none.", _ALONE)
    return ids.fillna(_OWN_PATIENT + record_id[alone])


def _dates(cohort: Cohort, columns: TableColumns) -> tuple[pd.Series, pd.Series]:
    """When each ECG was recorded and its patient born, in days; NaN where unknown, or where no setting needs it."""

    def read(setting: str, consequence: str, *, decides: bool) -> pd.Series:
        moments = columns.read(
            setting, lambda text: read_moment(text, cohort.date_format), consequence, decides=decides
        )
        return moments.astype(float)

    moment = birth = pd.Series(np.nan, columns.cells.index)
    if cohort.birth_date_column or cohort.echoes or cohort.ecgs_per_patient != "all":
        moment = read("ecg_date_column", "date unknown", decides=True)
    if cohort.birth_date_column:
        birth = read("birth_date_column", _AGE_UNKNOWN, decides=False)
    return moment, birth


def _ages(columns: TableColumns, moment: pd.Series, birth: pd.Series) -> pd.Series:
    """Ages in completed years at the ECG, from the birth date where that is known, else from the column of ages."""
    ages = pd.Series(np.nan, columns.cells.index)
    if columns.text("age_column") is not None:
        ages = columns.read("age_column", read_age, _AGE_UNKNOWN, decides=False).astype(float)
    both = moment.notna() & birth.notna()
    years = pd.Series(map(years_between, birth[both], moment[both]), both.index[both], dtype=float)
    wrong = years.index[~years.between(0, OLDEST)]
    problem = f"Expected a birth date 0 to {OLDEST} years before the ECG's date. Received another."
    columns.problems.add("labels", columns.name("birth_date_column"), wrong, problem, _AGE_UNKNOWN)
    return years.drop(wrong).reindex(ages.index).fillna(ages)


def _expect_any(cohort: Cohort, file: TableFile, rows: pd.DataFrame, problems: TableProblems) -> None:
    if len(rows) == 0:
        _, detail = problems.rejected[min(problems.rejected)]
        tally = ", ".join(f"{reason} {count:,}" for reason, count in sorted(problems.tally().items()))
        raise DatasetError(
            f"{cohort.labels}: Expected at least one usable row. Received none: all {len(file.cells):,} are left out "
            f"({tally}), the first because: {detail}"
        )


def _rejected(cohort: Cohort, file: TableFile, problems: TableProblems) -> pd.DataFrame:
    # In a long row another cell may stand where the path should.
    paths = file.cells[cohort.path_column].mask(file.cells.index.isin(list(file.long_rows)), "")
    found = [(paths[row], reason, detail) for row, (reason, detail) in sorted(problems.rejected.items())]
    return pd.DataFrame(found, columns=["path", "reason", "detail"])
