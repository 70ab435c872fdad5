"""What pretraining was worth: a run from a pretrained encoder minus its control from random weights."""

from collections.abc import Sequence

from keras_ecg_mae.config import RANDOM
from keras_ecg_mae.evaluation.metrics import AurocDifference
from keras_ecg_mae.pages.tables import Cell, Row, Table
from keras_ecg_mae.reports.comparison import Column, GroupKey, paired_difference
from keras_ecg_mae.reports.document import Part
from keras_ecg_mae.reports.table_3 import format_auroc, format_p_values

# In what a run may differ from its control: where its weights came from.
_WEIGHTS = {"encoder", "transfer", "pretrain", "encoder_sha256"}


def pretraining_effects(columns: Sequence[Column]) -> Part | None:
    """Each pair of runs that differ in nothing but the weights they began with, one pretrained and one random.

    Both have the same labels, seed, settings and learning rates to try. None where there is no such pair.
    """
    pairs = [(column, control) for column in columns for control in columns if _is_control(control, column)]
    if not pairs:
        return None
    level = f"{100 * columns[0].run.results.confidence:g}%"
    rows, remarks = [], []
    for column, control in pairs:
        run, other = column.run, control.run
        for key, group in column.groups.items():
            confidence = run.results.confidence
            difference = paired_difference(run.rows_of(group), other.rows_of(control.groups[key]), confidence)
            areas = format_auroc(group.auroc), format_auroc(control.groups[key].auroc)
            gap = Cell(_text(difference), format_p_values(difference))
            rows.append(Row(f"{column.title}, {key[1]}", (*map(Cell, areas), gap)))
        # The last group is the pool of the external institutions, or of the internal ones where there are none.
        remarks.append(_sentence(column, control, key, areas, difference))
    table = Table(
        name="pretraining_effect",
        caption=f"AUROC from the pretrained encoder, from random weights, and their difference ({level} CI)",
        columns=("Pretrained", "Random weights", "Difference"),
        rows=tuple(rows),
        notes=(
            "Difference: paired on the same ECGs (DeLong et al. 1988, ECGs summed by patient as in Obuchowski 1997). "
            "It allows for other test patients, not for other labels or other random weights, and is not adjusted for "
            "multiple comparisons.",
        ),
    )
    return Part("What pretraining was worth", tuple(remarks), (table,))


def _is_control(control: Column, column: Column) -> bool:
    first, second = (
        {name: value for name, value in one.run.settings.items() if name not in _WEIGHTS} for one in (column, control)
    )
    random = control.run.settings["encoder"] == RANDOM != column.run.settings["encoder"]
    return random and first == second and set(column.run.finetuning_rows) == set(control.run.finetuning_rows)


def _text(difference: AurocDifference) -> str:
    if difference.difference is None:
        return "undefined"
    interval = "" if difference.low is None else f" ({difference.low:+.3f} to {difference.high:+.3f})"
    return f"{difference.difference:+.3f}{interval}"


def _sentence(
    column: Column, control: Column, key: GroupKey, areas: tuple[str, str], difference: AurocDifference
) -> str:
    if difference.low is None or difference.high is None:
        verdict = f"it has no interval: {difference.undefined}"
    elif difference.low <= 0 <= difference.high:
        verdict = "the interval holds 0, so this does not show that either is better"
    else:
        verdict = f"the interval lies {'above' if difference.low > 0 else 'below'} 0"
    group = column.groups[key]
    return (
        f"{column.title} against {control.title.lower()}, with the same {column.run.labels:,} labels, learning rates "
        f"and epochs: AUROC {areas[0]} and {areas[1]} at {key[1]} ({group.ecgs:,} ECGs of {group.patients:,} "
        f"patients). Difference {_text(difference)}: {verdict}. Other labels may give another one."
    )
