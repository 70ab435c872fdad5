"""Table 3 of Sawano et al. from compared runs, and where its numbers come from.

The paper's own layout is not at hand: that its columns are models by training set and its rows institutions is
inferred from its text.
"""

from collections.abc import Sequence

from keras_ecg_mae.config import OWN_PRETRAINING, RANDOM
from keras_ecg_mae.evaluation.comparison import Cohort, Column, cohorts
from keras_ecg_mae.evaluation.finished_run import CNN
from keras_ecg_mae.evaluation.metrics import AurocDifference
from keras_ecg_mae.evaluation.scoring import Group
from keras_ecg_mae.evaluation.tables import NOTHING, Cell, Row, Table
from keras_ecg_mae.run_folder import Made


def table_3(columns: Sequence[Column]) -> Table:
    """AUROC with its interval a cohort and run; p-values against the CNN of the same training set."""
    results = columns[0].run.results
    level = f"{100 * results.confidence:g}%"
    return Table(
        name="table_3",
        caption=f"Table 3. AUROC ({level} CI) for {results.label_name} on test ECGs, a column a model",
        groups=tuple(f"Trained on {column.training_set}" for column in columns),
        columns=tuple(column.title for column in columns),
        rows=tuple(Row(name, tuple(_cell(c, (pool, name)) for c in columns)) for pool, name in cohorts(columns)),
        notes=tuple(_notes(columns, level)),
    )


def _cell(column: Column, cohort: Cohort) -> Cell:
    group, difference = column.groups.get(cohort), column.differences.get(cohort)
    if group is None or group.ecgs == 0:
        return Cell(NOTHING)
    marked = group.role == "internal"
    if group.auroc.value is None:
        return Cell(f"undefined: {group.auroc.undefined}", marked=marked)
    text = f"{group.auroc.value:.3f} ({group.auroc.low:.3f}-{group.auroc.high:.3f})"
    return Cell(text, format_p_value(difference) if difference else "", marked)


def format_p_value(difference: AurocDifference) -> str:
    """`p = 0.032`, `p < 0.001`, or why there is none."""
    if difference.p_value is None:
        return f"p undefined: {difference.undefined}"
    return "p < 0.001" if difference.p_value < 0.0005 else f"p = {difference.p_value:.3f}"


def _notes(columns: Sequence[Column], level: str) -> list[str]:
    notes = [
        "† Internal: the training set holds other patients of this institution. Without it: external, none of its "
        "ECGs. A dash: no labelled test ECG.",
        f"{level} CI: on the logit scale with DeLong's variance, ECGs summed by patient (Obuchowski 1997), and "
        "Student's t; Newcombe's method 5 where that cannot be had.",
    ]
    elsewhere = [column.name for column in columns if column.run.encoder not in (OWN_PRETRAINING, RANDOM)]
    if elsewhere:
        notes.append(
            f"Pretrained elsewhere: {'; '.join(elsewhere)}. Institutions whose ECGs that pretraining saw, without "
            "labels, count as external here all the same."
        )
    compared = [column for column in columns if column.baseline is not None]
    if compared:
        notes.append(
            "p: two-sided, paired test of equal AUROCs on the same ECGs (DeLong et al. 1988, ECGs summed by patient as "
            "in Obuchowski 1997, and Student's t) against the CNN of the same training set. Not adjusted for multiple "
            "comparisons."
        )
    for name in dict.fromkeys(column.training_set for column in columns):
        members = [column for column in columns if column.training_set == name]
        if not any(column.run.architecture == CNN for column in members):
            notes.append(f"No p-values for models trained on {name}: no run is its CNN (--architecture={CNN}).")
    if len({column.training_set for column in columns}) > 1:
        notes.append(
            "The pools hold the institutions that are internal, or external, to the column's training set: "
            "columns of different training sets pool different ECGs."
        )
    return notes


def counts_table(columns: Sequence[Column]) -> Table:
    """The test ECGs behind table 3, a column a training set."""
    first: dict[str, Column] = {}
    for column in columns:
        first.setdefault(column.training_set, column)
    chosen = list(first.values())
    rows = []
    for pool, name in cohorts(columns):
        groups = [column.groups.get((pool, name)) for column in chosen]
        rows.append(Row(name, tuple(_counts(group) for group in groups)))
    return Table(
        name="table_3_ecgs",
        caption=f"Test ECGs behind table 3: ECGs (positive for {columns[0].run.results.label_name}), patients",
        groups=("",) * len(chosen),
        columns=tuple(f"Trained on {column.training_set}" for column in chosen),
        rows=tuple(rows),
        notes=("† Internal.",),
    )


def _counts(group: Group | None) -> Cell:
    if group is None or group.ecgs == 0:
        return Cell(NOTHING)
    patients = f"{group.patients:,} patients ({group.positive_patients:,})"
    return Cell(f"{group.ecgs:,} ({group.positive_ecgs:,})", patients, group.role == "internal")


def sources_table(columns: Sequence[Column]) -> Table:
    """Where each column of table 3 comes from."""
    rows = []
    for column in columns:
        run = column.run
        values = (
            str(run.folder),
            run.encoder,
            run.dataset.folder,
            f"{run.dataset.recordings:,}",
            run.dataset.sha256,
            run.predictions_sha256,
        )
        stages = tuple(_made(stage) for stage in (run.pretrained, run.finetuned, run.evaluated))
        rows.append(Row(column.name, (*stages, *map(Cell, values))))
    stage_heads = ("pretrained", "fine-tuned", "evaluated")
    heads = (*stage_heads, "run folder", "encoder", "dataset", "recordings", "dataset's checksum")
    return Table(
        name="sources",
        caption="Where each column of table 3 comes from",
        groups=("",) * (len(heads) + 1),
        columns=(*heads, "SHA-256 of evaluation/predictions.csv"),
        rows=tuple(rows),
        notes=(
            "Pretrained, fine-tuned, evaluated: when each was done, and with which git revision and version of this "
            "package; a revision that ends in -dirty had files that differ from it.",
        ),
        prose=True,
    )


def _made(stage: Made | None) -> Cell:
    if stage is None:
        return Cell(NOTHING)
    return Cell(stage.done, f"revision {stage.git_revision or 'unknown'}, version {stage.version}")


def cells_table(columns: Sequence[Column]) -> Table:
    """Table 3 with a row a cell and every digit, for those who compute with it."""
    heads = (
        *("model", "training set", "role", "ECGs", "patients", "positive ECGs", "AUROC", "low", "high", "interval"),
        *("compared with", "difference", "difference low", "difference high", "p", "undefined"),
    )
    rows = []
    for cohort in cohorts(columns):
        for column in columns:
            if (group := column.groups.get(cohort)) is None:
                continue
            difference = column.differences.get(cohort, AurocDifference(None))
            area = group.auroc
            values = (
                *(column.title, column.training_set, group.role, group.ecgs, group.patients, group.positive_ecgs),
                *(area.value, area.low, area.high, area.method, column.baseline.folder if column.baseline else None),
                *(difference.difference, difference.low, difference.high, difference.p_value),
                area.undefined or difference.undefined,
            )
            rows.append(Row(cohort[1], tuple(Cell("" if value is None else str(value)) for value in values)))
    return Table("table_3_cells", "Table 3, a row a cell", ("",) * len(heads), heads, tuple(rows))
