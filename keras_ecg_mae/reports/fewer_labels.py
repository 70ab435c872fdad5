"""A run with fewer labels against one with more: "higher AUROC than the baseline CNN with only 30% labels".

Sawano et al., section 3: the ViT of Dataset1 and Train1 (31,816 labels) against the CNN of Train2 (107,571), at the
institutions external to both.
"""

from collections.abc import Sequence

import pandas as pd

from keras_ecg_mae.errors import RunError
from keras_ecg_mae.evaluation.metrics import AurocDifference, auroc
from keras_ecg_mae.evaluation.scoring import patient_numbers
from keras_ecg_mae.pages.tables import Cell, Row, Table
from keras_ecg_mae.reports.comparison import Column, expect_agreement, paired_difference
from keras_ecg_mae.reports.document import Part
from keras_ecg_mae.reports.paper import Paper
from keras_ecg_mae.reports.table_3 import beside_paper, format_auroc, format_p_values


def fewer_labels(fewer: Column, more: Column, paper: Paper | None = None) -> Part:
    """How many labels each of two runs used, and their paired difference at each institution external to both.

    Their datasets may be two of the same recordings: ECGs are matched by record id.

    Raises:
        RunError: the first run did not use fewer labels, no institution is external to both, or a record has another
            label or institution in the other run.
    """
    first, second = fewer.run, more.run
    if first.labels >= second.labels:
        raise RunError(
            f"Expected --fewer_labels=RUN_A,RUN_B with fewer labels in RUN_A. Received {first.folder} with "
            f"{first.labels:,} and {second.folder} with {second.labels:,}."
        )
    institutions = [name for name in fewer.external if name in more.external]
    if not institutions:
        raise RunError(
            f"Expected an institution that is external to both runs. Received {first.folder} with "
            f"{', '.join(fewer.external) or 'none'} and {second.folder} with {', '.join(more.external) or 'none'}."
        )
    level = f"{100 * first.results.confidence:g}%"
    matched = {name: _matched(fewer, more, name) for name in institutions}
    if all(rows.empty for rows, _ in matched.values()):
        raise RunError(
            f"Expected {first.folder} and {second.folder} to have test ECGs in common. Received none at "
            f"{', '.join(institutions)}: the two datasets are not of the same recordings."
        )
    compared = [_compared(fewer, more, name, rows, paper) for name, rows in matched.items()]
    table = Table(
        name="fewer_labels",
        caption=f"AUROC ({level} CI) at the institutions external to both runs, on the ECGs that both were tested on",
        columns=("ECGs of both", fewer.name, more.name, f"Difference ({level} CI)"),
        rows=tuple(row for row, _ in compared),
        notes=(
            "ECGs of both: test ECGs of the two runs, matched by record id; their labels agree.",
            "Difference: the first run's AUROC minus the second's, paired on the same ECGs (DeLong et al. 1988, ECGs "
            "summed by patient as in Obuchowski 1997). Interval and p (t): by Student's t. z and p (normal): as R's "
            "pROC gives them. Not adjusted for multiple comparisons.",
        ),
        head="External institution",
    )
    return Part("Fewer labels", (*_labels(fewer, more, paper), _verdict([item for _, item in compared])), (table,))


def _compared(
    fewer: Column, more: Column, institution: str, matched: tuple[pd.DataFrame, pd.DataFrame], paper: Paper | None
) -> tuple[Row, AurocDifference]:
    key, confidence = (False, institution), fewer.run.results.confidence
    held = " and ".join(f"{column.groups[key].ecgs:,}" for column in (fewer, more))
    cells = [Cell(f"{len(matched[0]):,}", f"of {held}")]
    for column, rows in zip((fewer, more), matched, strict=True):
        area = auroc(rows["label"].to_numpy(), rows["probability"].to_numpy(), patient_numbers(rows), confidence)
        below = beside_paper(paper, column, key, area.value)
        cells.append(Cell(format_auroc(area), below, column.pretraining_saw(key)))
    difference = paired_difference(*matched, confidence)
    text = "undefined" if difference.difference is None else f"{difference.difference:+.3f}"
    interval = "" if difference.low is None else f" ({difference.low:+.3f} to {difference.high:+.3f})"
    cells.append(Cell(text + interval, format_p_values(difference)))
    return Row(institution, tuple(cells)), difference


def _matched(fewer: Column, more: Column, institution: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The predictions of either run for the test ECGs of an institution that both have, in one order."""
    ours = fewer.run.test[fewer.run.test["institution"] == institution]
    both = ours.merge(more.run.test, on="record_id")
    expect_agreement(both, ("institution", "label"), fewer.run, more.run)
    # Patients by the first run's keys, since another dataset may have others.
    common = both.rename(columns={"label_x": "label", "patient_key_x": "patient_key"})
    first, second = (common.assign(probability=both[f"probability_{side}"]) for side in ("x", "y"))
    return first, second


def _labels(fewer: Column, more: Column, paper: Paper | None) -> list[str]:
    """How many labels were used, ours and the paper's."""
    counts = [
        f"{column.name}: {column.run.labels:,} ECGs with their labels, {column.run.trained.count('train'):,} to learn "
        f"from and {column.run.trained.count('validation'):,} to choose by."
        for column in (fewer, more)
    ]
    lines = [*counts, f"The first run used {fewer.run.labels / more.run.labels:.0%} of the labels of the second."]
    first, second = (paper.labels_of(column) if paper else None for column in (fewer, more))
    if first is not None and second is not None:
        lines.append(f"The paper's two models used {first:,} and {second:,}: {first / second:.0%}.")
    return lines


def _verdict(differences: Sequence[AurocDifference]) -> str:
    defined = [item.difference for item in differences if item.difference is not None]
    higher = sum(difference > 0 for difference in defined)
    above, below = sum((item.low or 0) > 0 for item in differences), sum((item.high or 0) < 0 for item in differences)
    return (
        f"The first run's AUROC is higher at {higher} of {len(defined)} institutions external to both where the "
        f"difference is defined. Its interval lies above 0 at {above}, below 0 at {below}."
    )
