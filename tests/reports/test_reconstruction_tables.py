"""Reconstruction errors of pretrained runs in a report."""

from collections.abc import Callable
from pathlib import Path

import pandas as pd

from keras_ecg_mae.evaluation.delineation import PARTS
from keras_ecg_mae.evaluation.reconstruction import COLUMNS
from keras_ecg_mae.reports.report import make_report
from keras_ecg_mae.runs.folder import RECONSTRUCTION_ERRORS
from keras_ecg_mae.spec import LEADS


def test_the_report_has_a_table_of_each_pretrained_run(made_run: Callable[..., Path]) -> None:
    pretrained, other = made_run("pretrained"), made_run("other", seed=1)
    predictors, places = ("model", "lead's visible mean", "recording's mean"), (*LEADS, "all leads", "QRS")
    measured = [("error", where, predictor, 0.25, 0.5, 2) for where in places for predictor in predictors]
    measured += [("einthoven", "limb leads", predictor, 0.1, 0.2, 2) for predictor in (*predictors, "recording")]
    pd.DataFrame(measured, columns=list(COLUMNS)).to_csv(pretrained / "pretrain" / RECONSTRUCTION_ERRORS, index=False)
    document = make_report([pretrained, other], [])
    (part,) = [part for part in document.parts if part.title == "Reconstructions"]
    errors, einthoven = part.tables
    assert len(set(errors.groups)) == 1
    rows = {row.head: row for row in errors.rows}
    assert list(rows) == [*LEADS, "inferior", "anterior", "all leads", *PARTS]
    assert rows["II"].texts == rows["QRS"].texts == ("0.250",) * 3
    assert rows["P"].texts == ("-",) * 3
    assert [cell.detail for cell in einthoven.rows[0].cells] == ["0.200 mV"] * 4
    assert any("2 validation recordings, of which 2 could be delineated" in note for note in errors.notes)
