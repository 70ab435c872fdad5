"""A report's tables of reconstruction errors, beside figures 1 and 3."""

from collections.abc import Sequence

import pandas as pd

from keras_ecg_mae.evaluation import reconstruction
from keras_ecg_mae.evaluation.delineation import PARTS
from keras_ecg_mae.evaluation.reconstruction import ALL, LEAD_GROUPS, MODEL, RECORD_MEAN, RECORDING, VISIBLE_MEAN
from keras_ecg_mae.pages.tables import NOTHING, Cell, Row, Table
from keras_ecg_mae.reports.comparison import Column
from keras_ecg_mae.spec import LEADS


def reconstruction_tables(columns: Sequence[Column]) -> tuple[Table, ...]:
    """Appendix C in numbers, of each pretrained run: by lead and part of the beat, and Einthoven's residual."""
    runs = {
        column.name: reconstruction.read_reconstruction_errors(path)
        for column in columns
        if (path := column.run.reconstruction_errors)
    }
    if not runs:
        return ()
    counts = []
    for name, errors in runs.items():
        measured, delineated = (
            errors["recordings"].get((reconstruction.ERROR, at, MODEL), 0) for at in (ALL, PARTS[0])
        )
        counts.append(f"{name}: {measured} validation recordings, of which {delineated} could be delineated.")
    learnt = (column.name for column in columns if column.name in runs and column.run.learnt_from_validation)
    return (
        _table(
            "reconstruction_errors",
            "Appendix C in numbers. Error on hidden patches by lead and part of the beat, as a share of the variance",
            runs,
            reconstruction.ERROR,
            (*LEADS, *LEAD_GROUPS, ALL, *PARTS),
            (MODEL, VISIBLE_MEAN, RECORD_MEAN),
            (
                "A share of 1 is the error of predicting each lead's own mean. Every recording counts alike. Below it, "
                "the root mean square error in mV.",
                f"Inferior leads are {', '.join(LEAD_GROUPS['inferior'])}, anterior ones "
                f"{', '.join(LEAD_GROUPS['anterior'])}.",
                "Parts of the beat as Emrich et al. 2024 delineate them (NeuroKit2), over all leads. ST-T is from the "
                "end of the QRS complex to the end of the T wave; in atrial fibrillation P is no P wave.",
                *counts,
                *(f"{name}: pretraining has learnt from these recordings as well." for name in learnt),
            ),
        ),
        _table(
            "reconstruction_einthoven",
            "Appendix C in numbers. How far the limb leads are from II = I + III where one of them was hidden",
            runs,
            reconstruction.EINTHOVEN,
            (reconstruction.LIMB_LEADS,),
            (MODEL, VISIBLE_MEAN, RECORD_MEAN, RECORDING),
            (
                "The mean square of II - I - III as a share of the variance of lead II; below it, its root in mV. "
                "Hidden patches are reconstructed, visible ones as recorded.",
            ),
        ),
    )


def _table(
    name: str,
    caption: str,
    runs: dict[str, pd.DataFrame],
    measure: str,
    places: Sequence[str],
    predictors: tuple[str, ...],
    notes: tuple[str, ...],
) -> Table:
    def cell(errors: pd.DataFrame, *key: str) -> Cell:
        if key not in errors.index:
            return Cell(NOTHING)
        return Cell(f"{errors['share'][key]:.3f}", f"{errors['rms_mv'][key]:.3f} mV")

    return Table(
        name,
        caption,
        columns=predictors * len(runs),
        rows=tuple(
            Row(where, tuple(cell(errors, measure, where, one) for errors in runs.values() for one in predictors))
            for where in places
        ),
        notes=notes,
        groups=tuple(run for run in runs for _ in predictors),
    )
