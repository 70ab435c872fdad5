"""Runs compared on the same test ECGs: each with the CNN of its training set."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from keras_ecg_mae.errors import RunError
from keras_ecg_mae.evaluation.metrics import AurocDifference, auroc_difference
from keras_ecg_mae.evaluation.scoring import Group, patient_numbers
from keras_ecg_mae.reports.finished_run import FinishedRun

# An institution may be called `all internal`, so a group is known by whether it is a pool, and its name.
GroupKey = tuple[bool, str]


@dataclass(frozen=True)
class Column:
    """A run in the comparison.

    Attributes:
        run: the run.
        title: its title, told apart from those of the other runs of the same training set.
        dataset: a short name of its dataset, told apart from those of the other runs.
        training_set: that name, and the share of the labels where it is not all of them.
        pretraining: what its encoder was pretrained on: a dataset's short name, or published weights; empty for none.
        baseline: the CNN of the same training set; None without one, and for the CNN itself.
        groups: the run's scores by key.
        differences: its AUROC minus the baseline's by key; empty without a baseline.
    """

    run: FinishedRun
    title: str
    dataset: str
    training_set: str
    pretraining: str
    baseline: FinishedRun | None
    groups: dict[GroupKey, Group]
    differences: dict[GroupKey, AurocDifference]

    @property
    def name(self) -> str:
        """Title and training set, which no other column has."""
        return f"{self.title}, trained on {self.training_set}"

    @property
    def model(self) -> str:
        return "CNN" if self.run.is_cnn else f"ViT-{self.run.settings['size'].capitalize()}"

    @property
    def external(self) -> tuple[str, ...]:
        """Institutions whose labels fine-tuning has not used."""
        return tuple(name for (pooled, name), group in self.groups.items() if group.role == "external" and not pooled)

    def pretraining_saw(self, key: GroupKey) -> bool:
        """Whether ECGs of a group are, or may be, among those that pretraining saw without labels."""
        before = self.run.trained.before
        while before is not None:
            elsewhere = before.dataset.sha256 != self.run.dataset.sha256
            pooled, name = key
            institutions = self.run.rows_of(self.groups[key])["institution"].unique() if pooled else [name]
            if any("test" in splits or elsewhere for at, splits in before.recordings.items() if at in institutions):
                return True
            before = before.before
        return False


def compare(runs: Sequence[FinishedRun]) -> tuple[Column, ...]:
    """Compares each run with the CNN of its training set, on the same ECGs.

    Raises:
        RunError: a run comes twice, labels or confidence levels differ, a training set has several CNNs, or two runs
            of a training set were not evaluated on the same records with the same labels.
    """
    _expect_comparable(runs)
    names = _dataset_names(runs)
    sets: dict[str, list[FinishedRun]] = {}
    for run in runs:
        sets.setdefault(_training_set(run, names), []).append(run)
    for members in sets.values():
        for run in members[1:]:
            _expect_same_records(members[0], run)
    return tuple(_column(run, names, sets[_training_set(run, names)]) for run in runs)


def _expect_comparable(runs: Sequence[FinishedRun]) -> None:
    for place, run in enumerate(runs):
        if any(run.folder.resolve() == other.folder.resolve() for other in runs[:place]):
            raise RunError(f"{run.folder}: Expected every run once. Received it twice.")
        for word, value, first in (
            ("label", run.trained.label, runs[0].trained.label),
            ("confidence level", run.results.confidence, runs[0].results.confidence),
        ):
            if value != first:
                raise RunError(
                    f"{run.folder}: Expected runs with the same {word}, {first!r} as in {runs[0].folder}. "
                    f"Received {value!r}."
                )


def _training_set(run: FinishedRun, names: Mapping[str, str]) -> str:
    """The name of a dataset, and the share of its labels where it is not all of them."""
    share = run.settings["label_fraction"]
    return names[run.dataset.sha256] + ("" if share == 1 else f" ({100 * share:g}% of the labels)")


def _dataset_names(runs: Sequence[FinishedRun]) -> dict[str, str]:
    """Checksum -> a name of each dataset trained on; one prepared anew in the same folder is told by its checksum."""
    used = [run.trained for run in runs] + [run.trained.before for run in runs if run.trained.before is not None]
    datasets = {data.dataset.sha256: data.dataset.folder for data in reversed(used)}
    names = distinct_names(list(datasets.values()))
    return {
        sha256: name if names.count(name) == 1 else f"{name} ({sha256[:8]})"
        for sha256, name in zip(datasets, names, strict=True)
    }


def distinct_names(paths: Sequence[str]) -> list[str]:
    """Each path's last part, or as many of its last parts as tell it from the others; equal paths stay equal."""
    parts = {path: path.rstrip("/").split("/") for path in paths}
    names = {}
    for path in parts:
        length = 1
        while length < len(parts[path]) and any(
            parts[path][-length:] == other[-length:] for key, other in parts.items() if key != path
        ):
            length += 1
        names[path] = "/".join(parts[path][-length:])
    return [names[path] for path in paths]


def _pretraining(run: FinishedRun, names: Mapping[str, str]) -> str:
    trained = run.trained
    if trained.before is not None:
        return names[trained.before.dataset.sha256]
    weights = trained.initial_weights.rsplit("/", 1)[-1]
    return f"images: {weights}" if run.settings["transfer"] == "blocks" else weights


def _baseline(training_set: str, runs: Sequence[FinishedRun]) -> FinishedRun | None:
    baselines = [run for run in runs if run.is_cnn]
    if len(baselines) > 1:
        raise RunError(
            f"Expected one run with --architecture=cnn of the training set {training_set}, to compare the others "
            f"with. Received {len(baselines)}: {', '.join(str(run.folder) for run in baselines)}."
        )
    return baselines[0] if baselines else None


def _expect_same_records(first: FinishedRun, second: FinishedRun) -> None:
    columns = ["record_id", "institution", "patient_key", "label"]
    both = first.test[columns].merge(second.test[columns], on="record_id", how="outer", indicator=True)
    for side, holder, other in (("left_only", first, second), ("right_only", second, first)):
        alone = both.loc[both["_merge"] == side, "record_id"]
        if not alone.empty:
            raise RunError(
                f"Expected {first.folder} and {second.folder}, runs of one dataset, to hold predictions of the same "
                f"test records. Received {len(alone)} that {other.folder} lacks, the first being {alone.iloc[0]!r} of "
                f"{holder.folder}."
            )
    expect_agreement(both, columns[1:], first, second)


def expect_agreement(both: pd.DataFrame, columns: Sequence[str], first: FinishedRun, second: FinishedRun) -> None:
    """Raises `RunError` where two runs' predictions, merged by `record_id`, differ in one of some columns."""
    for column in columns:
        differing = both[both[f"{column}_x"] != both[f"{column}_y"]]
        if not differing.empty:
            row = differing.iloc[0]
            raise RunError(
                f"Expected {first.folder} and {second.folder} to agree on every {column}. Received "
                f"{row[f'{column}_x']!r} and {row[f'{column}_y']!r} for {row['record_id']!r}: they are not of the same "
                "recordings and labels."
            )


def _column(run: FinishedRun, names: Mapping[str, str], members: Sequence[FinishedRun]) -> Column:
    """The column of one of the `members`, the runs of a training set."""
    dataset, training_set = names[run.dataset.sha256], _training_set(run, names)
    title = run.title if [member.title for member in members].count(run.title) == 1 else f"{run.title} ({run.folder})"
    cnn = _baseline(training_set, members)
    baseline = None if cnn is run else cnn
    groups = {(group.pooled, group.name): group for group in run.results.groups}
    differences = {}
    if baseline:
        differences = {
            key: paired_difference(run.rows_of(group), baseline.rows_of(group), run.results.confidence)
            for key, group in groups.items()
        }
    return Column(run, title, dataset, training_set, _pretraining(run, names), baseline, groups, differences)


def paired_difference(rows: pd.DataFrame, others: pd.DataFrame, confidence: float) -> AurocDifference:
    """AUROC of the first predictions minus that of the others; both tables hold the same records in one order."""
    first, second = (table["probability"].to_numpy() for table in (rows, others))
    return auroc_difference(rows["label"].to_numpy(), first, second, patient_numbers(rows), confidence)


def group_keys(columns: Sequence[Column]) -> list[GroupKey]:
    """The rows: institutions that are internal to a run, those external to all, then the pools."""
    groups = [group for column in columns for group in column.groups.values()]
    internal = {group.name for group in groups if not group.pooled and group.role == "internal"}
    external = {group.name for group in groups if not group.pooled} - internal
    pools = {group.name for group in groups if group.pooled}
    # `all internal` before `all external`.
    ordered = [*sorted(internal), *sorted(external)]
    return [*((False, name) for name in ordered), *((True, name) for name in sorted(pools, reverse=True))]
