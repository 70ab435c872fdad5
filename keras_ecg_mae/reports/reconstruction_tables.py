"""A report's tables of reconstruction errors, beside figures 1 and 3."""

from collections.abc import Sequence

from keras_ecg_mae.evaluation.delineation import PARTS
from keras_ecg_mae.evaluation.reconstruction import (
    ALL,
    EINTHOVEN,
    ERROR,
    LEAD_GROUPS,
    LIMB_LEADS,
    MODEL,
    RECORD_MEAN,
    RECORDING,
    VISIBLE_MEAN,
    Measured,
    read_reconstruction_errors,
)
from keras_ecg_mae.reports.comparison import Column
from keras_ecg_mae.reports.tables import NOTHING, Cell, Row, Table
from keras_ecg_mae.spec import LEADS


def reconstruction_tables(columns: Sequence[Column]) -> tuple[Table, ...]:
    """Appendix C in numbers, of each pretrained run: by lead and part of the beat, and Einthoven's residual."""
    runs = {
        column.name: read_reconstruction_errors(column.run.reconstruction_errors)
        for column in columns
        if column.run.reconstruction_errors
    }
    if not runs:
        return ()
    places = [*LEADS, *LEAD_GROUPS, ALL, *PARTS]
    counts = [
        f"{name}: {_recordings(measured, ALL)} validation recordings, of which {_recordings(measured, PARTS[0])} could "
        "be delineated."
        for name, measured in runs.items()
    ] + [
        f"{column.name}: pretraining has learnt from these recordings as well."
        for column in columns
        if column.name in runs and column.run.learnt_from_validation
    ]
    return (
        _table(
            "reconstruction_errors",
            "Appendix C in numbers. Error on hidden patches by lead and part of the beat, as a share of the variance",
            runs,
            ERROR,
            places,
            (MODEL, VISIBLE_MEAN, RECORD_MEAN),
            (
                "A share of 1 is the error of predicting each lead's own mean. Every recording counts alike. Below it, "
                "the root mean square error in mV.",
                f"Inferior leads are {', '.join(LEAD_GROUPS['inferior'])}, anterior ones "
                f"{', '.join(LEAD_GROUPS['anterior'])}.",
                "Parts of the beat as Emrich et al. 2024 delineate them (NeuroKit2), over all leads. ST-T is from the "
                "end of the QRS complex to the end of the T wave; in atrial fibrillation P is no P wave.",
                *counts,
            ),
        ),
        _table(
            "reconstruction_einthoven",
            "Appendix C in numbers. How far the limb leads are from II = I + III where one of them was hidden",
            runs,
            EINTHOVEN,
            [LIMB_LEADS],
            (MODEL, VISIBLE_MEAN, RECORD_MEAN, RECORDING),
            (
                "The mean square of II - I - III as a share of the variance of lead II; below it, its root in mV. "
                "Hidden patches are reconstructed, visible ones as recorded.",
            ),
        ),
    )


def _recordings(measured: Sequence[Measured], where: str) -> int:
    one = _found(measured, ERROR, where, MODEL)
    return one.recordings if one else 0


def _found(measured: Sequence[Measured], *key: str) -> Measured | None:
    return next((one for one in measured if (one.measure, one.where, one.predictor) == key), None)


def _table(
    name: str,
    caption: str,
    runs: dict[str, list[Measured]],
    measure: str,
    places: Sequence[str],
    predictors: Sequence[str],
    notes: tuple[str, ...],
) -> Table:
    def cell(measured: Sequence[Measured], where: str, predictor: str) -> Cell:
        one = _found(measured, measure, where, predictor)
        return Cell(NOTHING) if one is None else Cell(f"{one.share:.3f}", f"{one.rms_mv:.3f} mV")

    return Table(
        name,
        caption,
        tuple(run for run in runs for _ in predictors),
        tuple(predictors) * len(runs),
        tuple(
            Row(where, tuple(cell(run, where, predictor) for run in runs.values() for predictor in predictors))
            for where in places
        ),
        notes,
    )
