"""Table 3 of Sawano et al. from compared runs, what stands behind it, and where its numbers come from."""

from collections.abc import Sequence
from typing import Any

from keras_ecg_mae.evaluation.metrics import Auroc, AurocDifference
from keras_ecg_mae.evaluation.scoring import Group
from keras_ecg_mae.pages.tables import NOTHING, Cell, Row, Table
from keras_ecg_mae.reports.comparison import Column, GroupKey, group_keys
from keras_ecg_mae.reports.paper import Paper
from keras_ecg_mae.runs.folder import Made

DASH = Cell(NOTHING)
INTERNAL: GroupKey = (True, "all internal")


def table_3(columns: Sequence[Column], paper: Paper | None = None) -> Table:
    """The paper's layout: a row the test ECGs of each training set, then a row each external institution.

    A cell is filled where the row's institution is external to the column's run. With `paper`, the paper's AUROC and
    ours minus it stand below ours where a run reproduces one of its columns.
    """
    first = columns[0].run
    level = f"{100 * first.results.confidence:g}%"
    datasets = list(dict.fromkeys(column.dataset for column in columns))
    institutions = sorted({name for column in columns for name in column.external})
    rows = [
        Row(f"Test of {name}", tuple(_cell(c, INTERNAL, paper) if c.dataset == name else DASH for c in columns))
        for name in datasets
    ]
    rows += [
        Row(name, tuple(_cell(c, (False, name), paper) if name in c.external else DASH for c in columns))
        for name in institutions
    ]
    heads = [(c.model, c.pretraining or NOTHING, c.training_set) for c in columns]
    subheads = [Row.of("Pre-training", (head[1] for head in heads)), Row.of("Fine-tuning", (head[2] for head in heads))]
    if len(set(heads)) < len(heads):
        subheads.append(Row.of("Run", (c.title for c in columns)))
    notes = [
        "Test of a training set: all test ECGs of its own institutions, of patients that it does not train on. An "
        "institution: all its ECGs, of whose labels fine-tuning used none. A dash: not external to the column's run, "
        "or no labelled test ECG.",
        f"{level} CI: on the logit scale with DeLong's variance, ECGs summed by patient (Obuchowski 1997), and "
        "Student's t; Newcombe's method 5 where that cannot be had.",
        *_pretraining_notes(columns),
    ]
    if paper is not None:
        notes += _paper_notes(columns, paper)
    return Table(
        name="table_3",
        caption=f"Table 3. AUROC ({level} CI) for {first.trained.label} on test ECGs, a column a model",
        columns=tuple(head[0] for head in heads),
        rows=tuple(rows),
        notes=tuple(notes),
        head="Model",
        subheads=tuple(subheads),
    )


def _cell(column: Column, key: GroupKey, paper: Paper | None) -> Cell:
    group = column.groups.get(key)
    value = group.auroc.value if group else None
    below = beside_paper(paper, column, key, value)
    if group is None or group.ecgs == 0:
        return Cell(NOTHING, below)
    return Cell(format_auroc(group.auroc), below, column.pretraining_saw(key))


def format_auroc(area: Auroc) -> str:
    """The area with its interval, or why there is none."""
    if area.value is None:
        return f"undefined: {area.undefined}"
    return str(area)


def beside_paper(paper: Paper | None, column: Column, key: GroupKey, value: float | None) -> str:
    """The paper's AUROC, and in brackets ours minus it; empty where there is none to stand beside ours."""
    printed = paper.auroc(column, key) if paper else None
    if printed is None:
        return ""
    return f"paper {printed:.2f}" + ("" if value is None else f" ({value - printed:+.3f})")


def format_p_values(difference: AurocDifference) -> str:
    """`p = 0.032 (t), z = 2.14, p = 0.032 (normal)`, or why there is none."""
    if difference.p_value is None:
        return f"p undefined: {difference.undefined}"
    t, normal = (f"p {_three_digits(value)}" for value in (difference.p_value, difference.normal_p_value))
    return f"{t} (t), z = {difference.z:.2f}, {normal} (normal)"


def _three_digits(p_value: float | None) -> str:
    assert p_value is not None
    return "< 0.001" if p_value < 0.0005 else f"= {p_value:.3f}"


def _pretraining_notes(columns: Sequence[Column]) -> list[str]:
    """What pretraining saw, the columns of one pretraining together."""
    seen: dict[str, list[str]] = {}
    for column in columns:
        for sentence in column.run.trained.sentences()[1:]:
            seen.setdefault(sentence, []).append(column.name)
    notes = [f"{'; '.join(names)}: {sentence}" for sentence, names in seen.items()]
    if any(column.pretraining_saw(key) for column in columns for key in column.groups):
        notes.insert(0, "† Some of these ECGs are, or may be, among those that pretraining saw without labels.")
    return notes


def _paper_notes(columns: Sequence[Column], paper: Paper) -> list[str]:
    labels = {c.name: f"{c.run.labels:,} and {n:,}" for c in columns if (n := paper.labels_of(c)) is not None}
    if not labels:
        return ["No run says that it reproduces a column of the paper's table 3 (--paper_column)."]
    return [
        "First line of a cell: ours, on the ECGs of the datasets named under Sources. Second line: the paper's (Sawano "
        "et al. 2022, table 3, which has two digits), on the patients of its own hospitals, and in brackets ours minus "
        "it, for a run that says that it reproduces the column (--paper_column). The ECGs are not the same, so the "
        "difference has no interval. The paper's ViT is ViT-Large.",
        "ECGs whose labels fine-tuning used, ours and the paper's: "
        f"{'; '.join(f'{name} {counts}' for name, counts in labels.items())}.",
    ]


def institutions_table(columns: Sequence[Column]) -> Table:
    """AUROC of every institution, internal ones too, and of the pools; p-values against the CNN."""
    level = f"{100 * columns[0].run.results.confidence:g}%"
    return Table(
        name="table_3_institutions",
        caption=f"Table 3, supplement. AUROC ({level} CI) at each institution and of the pools, beside the CNN",
        groups=tuple(f"Trained on {column.training_set}" for column in columns),
        columns=tuple(column.title for column in columns),
        rows=tuple(Row(key[1], tuple(_compared(c, key) for c in columns)) for key in group_keys(columns)),
        notes=tuple(_comparison_notes(columns)),
    )


def _compared(column: Column, key: GroupKey) -> Cell:
    group, difference = column.groups.get(key), column.differences.get(key)
    if group is None or group.ecgs == 0:
        return DASH
    compared = format_p_values(difference) if difference and group.auroc.value is not None else ""
    return Cell(format_auroc(group.auroc), compared, group.role == "internal")


def _comparison_notes(columns: Sequence[Column]) -> list[str]:
    notes = [
        "† Internal: the training set holds other patients of this institution. Without it: external, none of its "
        "labels were used. A dash: no labelled test ECG. A patient of two institutions is one in a pool's interval.",
    ]
    if any(column.baseline for column in columns):
        notes.append(
            "Two-sided, paired tests of equal AUROCs on the same ECGs against the CNN of the same training set (DeLong "
            "et al. 1988, ECGs summed by patient as in Obuchowski 1997). p (t): by Student's t, as the intervals are. "
            "z and p (normal): by the normal distribution, as R's pROC gives them. Not adjusted for multiple "
            "comparisons."
        )
    with_cnn = {column.training_set for column in columns if column.run.is_cnn}
    notes += [
        f"No p-values for models trained on {name}: no run is its CNN (--architecture=cnn)."
        for name in dict.fromkeys(column.training_set for column in columns)
        if name not in with_cnn
    ]
    if len({column.dataset for column in columns}) > 1:
        notes.append(
            "The pools hold the institutions that are internal, or external, to the column's training set: "
            "columns of different datasets pool different ECGs."
        )
    return notes


def counts_table(columns: Sequence[Column]) -> Table:
    """The test ECGs behind table 3, a column a training set."""
    # Of a training set's runs, the first one: all have the same test ECGs.
    chosen = {column.training_set: column for column in reversed(columns)}
    names = tuple(dict.fromkeys(column.training_set for column in columns))
    return Table(
        name="table_3_ecgs",
        caption=f"Test ECGs behind table 3: ECGs (positive for {columns[0].run.trained.label}), patients",
        columns=tuple(f"Trained on {name}" for name in names),
        rows=tuple(
            Row(key[1], tuple(_counts(chosen[name].groups.get(key)) for name in names)) for key in group_keys(columns)
        ),
        notes=("† Internal.",),
    )


def _counts(group: Group | None) -> Cell:
    if group is None or group.ecgs == 0:
        return DASH
    patients = f"{group.patients:,} patients ({group.positive_patients:,})"
    return Cell(f"{group.ecgs:,} ({group.positive_ecgs:,})", patients, group.role == "internal")


def sources_table(columns: Sequence[Column]) -> Table:
    """Where each column of table 3 comes from."""
    sources = [_source(column) for column in columns]
    return Table(
        name="sources",
        caption="Where each column of table 3 comes from",
        columns=tuple(sources[0]),
        rows=tuple(Row(column.name, tuple(cells.values())) for column, cells in zip(columns, sources, strict=True)),
        notes=(
            "Pretrained, fine-tuned, evaluated: when each was done, and with which git revision and version of this "
            "package; a revision that ends in -dirty had files that differ from it.",
            "Labels: training and validation ECGs whose labels fine-tuning used.",
        ),
        prose=True,
    )


def _source(column: Column) -> dict[str, Cell]:
    """A column's cells of `sources_table` by their heads."""
    run = column.run
    return {
        "pretrained": _made(run.pretrained),
        "fine-tuned": _made(run.finetuned),
        "evaluated": _made(run.evaluated),
        "run folder": Cell(str(run.folder)),
        "what its weights have seen": Cell(" ".join(run.trained.sentences())),
        "labels": Cell(f"{run.labels:,}"),
        "dataset": Cell(run.dataset.folder),
        "recordings": Cell(f"{run.dataset.recordings:,}"),
        "dataset's checksum": Cell(run.dataset.sha256),
        "SHA-256 of evaluation/predictions.csv": Cell(run.predictions_sha256),
    }


def _made(stage: Made | None) -> Cell:
    if stage is None:
        return DASH
    return Cell(stage.done, f"revision {stage.git_revision or 'unknown'}, version {stage.version}")


def cells_table(columns: Sequence[Column], paper: Paper | None = None) -> Table:
    """Both tables with a row a cell and every digit, for those who compute with them."""
    values = [
        (key[1], _values(column, key, paper))
        for key in group_keys(columns)
        for column in columns
        if key in column.groups
    ]
    return Table(
        name="table_3_cells",
        caption="Table 3 and its supplement, a row a cell",
        columns=tuple(values[0][1]),
        rows=tuple(
            Row.of(name, ("" if value is None else str(value) for value in row.values())) for name, row in values
        ),
    )


def _values(column: Column, key: GroupKey, paper: Paper | None) -> dict[str, Any]:
    """A row of `cells_table` by its columns' heads."""
    group, difference = column.groups[key], column.differences.get(key, AurocDifference(None))
    area = group.auroc
    return {
        "model": column.title,
        "training set": column.training_set,
        "role": group.role,
        "ECGs": group.ecgs,
        "patients": group.patients,
        "positive ECGs": group.positive_ecgs,
        "AUROC": area.value,
        "low": area.low,
        "high": area.high,
        "interval": area.method,
        "compared with": column.baseline.folder if column.baseline else None,
        "difference": difference.difference,
        "difference low": difference.low,
        "difference high": difference.high,
        "p (t)": difference.p_value,
        "z": difference.z,
        "p (normal)": difference.normal_p_value,
        "undefined": area.undefined or difference.undefined,
        "paper's AUROC": paper.auroc(column, key) if paper else None,
    }
