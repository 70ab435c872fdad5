"""The label of each row of a cohort's table: from a column of its own, an ejection fraction, or an echocardiogram."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from absl import logging

from keras_ecg_mae.cohort.echo_pairing import Pairing, pair, read_echoes
from keras_ecg_mae.cohort.ejection_fraction import read_ejection_fraction
from keras_ecg_mae.cohort.patient_ids import list_other_spellings
from keras_ecg_mae.cohort.table_cells import read_label
from keras_ecg_mae.cohort.table_columns import TableColumns
from keras_ecg_mae.cohort.table_problems import UNLABELLED
from keras_ecg_mae.config import Cohort

LVSD = "lvsd"


@dataclass(frozen=True)
class Labels:
    """The labels of a table's rows.

    Attributes:
        name: `"lvsd"` where they are ejection fractions under the threshold, else the label column's name; empty
            where there are none.
        label: 0.0, 1.0, NaN where unknown.
        lvef: percent, NaN where unknown.
        days_to_echo: from each ECG to its echocardiogram, NaN without one.
        pairing: how many have one, None without a table of echocardiograms.
        echoes_sha256: checksum of that table, empty without one.
    """

    name: str
    label: pd.Series
    lvef: pd.Series
    days_to_echo: pd.Series
    pairing: Pairing | None = None
    echoes_sha256: str = ""


def read_labels(cohort: Cohort, columns: TableColumns, patients: pd.Series, moments: pd.Series) -> Labels:
    """Reads the labels of the rows that are in `columns`.

    Sawano et al.: an ejection fraction under 40% is positive. Ranges and bounds are read by `ejection_fraction.py`.

    Args:
        cohort: the settings.
        columns: the table.
        patients: of each row.
        moments: when each row's ECG was recorded, in days, NaN where unknown.

    Raises:
        DatasetError: a column is missing or the wrong one, or `--echoes` cannot be used.
        ConfigError: a sheet is named that `--echoes` does not have.
    """
    unknown = pd.Series(np.nan, columns.cells.index)
    if cohort.echoes:
        columns.required("patient_id_column")
        if cohort.lvef_column in columns.file.header:
            logging.warning('%s: the column "%s" is not used, since --echoes is.', cohort.labels, cohort.lvef_column)
        echoes = read_echoes(cohort, columns.problems)
        list_other_spellings(columns, patients, echoes.usable["patient"].unique())
        said, days, pairing = pair(patients, moments, echoes, cohort.echo_window_days, cohort.labels)
        label = _by_threshold(cohort, columns, said, "")
        return Labels(LVSD, label, _percent(said), days, pairing, echoes.sha256)
    lvef = columns.text("lvef_column")
    if lvef is not None:
        said = columns.read(
            "lvef_column",
            lambda text: read_ejection_fraction(text, cohort.lvef_range),
            "ejection fraction unknown" if cohort.label_column else UNLABELLED,
            decides=True,
        )
    percent = unknown if lvef is None else _percent(said)
    if cohort.label_column:
        label = columns.read("label_column", read_label, UNLABELLED, decides=True).astype(float)
        return Labels(cohort.label_column, label, percent, unknown)
    if lvef is None:
        logging.warning(
            '%s: neither a column "%s" (--lvef_column) nor a --label_column: no recording has a label, so the dataset '
            "serves pretraining only.",
            cohort.labels,
            cohort.lvef_column,
        )
        return Labels("", unknown, unknown, unknown)
    return Labels(LVSD, _by_threshold(cohort, columns, said, columns.name("lvef_column")), percent, unknown)


def _by_threshold(cohort: Cohort, columns: TableColumns, said: pd.Series, column: str) -> pd.Series:
    label = said.map(lambda value: value.label(cohort.lvef_threshold), na_action="ignore").astype(float)
    problem = (
        f"Expected a bound that is enough to tell whether the ejection fraction is under {cohort.lvef_threshold:g}% "
        "(--lvef_threshold). Received one that leaves it open."
    )
    columns.problems.add("labels", column, said.index[said.notna() & label.isna()], problem, UNLABELLED)
    return label


def _percent(said: pd.Series) -> pd.Series:
    return said.map(lambda value: value.percent, na_action="ignore").astype(float)
