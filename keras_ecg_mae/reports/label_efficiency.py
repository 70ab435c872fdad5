"""The report on AUROC against the number of labels: means over seeds, and paired differences between arms."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure
from scipy.stats import t as student_t

from keras_ecg_mae import __version__
from keras_ecg_mae.errors import RunError
from keras_ecg_mae.evaluation.figures import COLORS, png
from keras_ecg_mae.pages.tables import NOTHING, Row, Table
from keras_ecg_mae.reports.document import Document, Part, Picture
from keras_ecg_mae.reports.finished_run import FinishedRun
from keras_ecg_mae.runs.folder import FOLDERS, read_done

NAMES = {
    "pretrained": "pretrained",
    "random": "random weights",
    "random_longer": "random weights, more epochs",
    "linear_probe": "dense layer on the pretrained encoder",
    "frozen_random": "dense layer on a random encoder",
    "cnn": "CNN",
}
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Trial:
    """One fine-tuning of a study.

    Attributes:
        arm, fraction, seed: which one it is.
        labels: ECGs whose labels it used, to learn from or to choose by.
        tested_on: the pool of test ECGs: the external institutions, or the internal ones where there are none.
        auroc: there.
        about: further columns of its line in the table of runs.
    """

    arm: str
    fraction: float
    seed: int
    labels: int
    tested_on: str
    auroc: float
    about: dict[str, str]


def trial_of(arm: str, fraction: float, seed: int, run: FinishedRun) -> Trial:
    """What a study keeps of a finished run. Raises `RunError` where its AUROC is undefined."""
    pool = run.results.groups[-1]
    if pool.auroc.value is None:
        raise RunError(f"{run.folder}: Expected an AUROC at {pool.name}. Received none: {pool.auroc.undefined}.")
    won = read_done(run.folder / FOLDERS["finetune"]) or {}
    about = {
        "interval": f"{pool.auroc}",
        "learning rate": f"{won['learning_rate']:g}",
        "epoch": str(won["epoch"] + 1),
        "validation loss": f"{won['validation_loss']:.4f}",
        "revision": (run.finetuned and run.finetuned.git_revision) or "",
        "run": str(run.folder),
    }
    tested_on = f"{pool.name} ({pool.ecgs:,} ECGs of {pool.patients:,} patients)"
    return Trial(arm, fraction, seed, run.labels, tested_on, pool.auroc.value, about)


def label_efficiency_report(trials: Sequence[Trial]) -> Document:
    """A report on finished trials, of one dataset."""
    columns = tuple(f"{100 * fraction:g}%" for fraction in _fractions(trials))
    means = Table(
        name="label_efficiency",
        caption=f"AUROC at {trials[0].tested_on} by share of the labels: mean over seeds (lowest-highest)",
        head="Labels of",
        columns=tuple(f"{column} of the patients" for column in columns),
        rows=tuple(
            Row.of(NAMES[arm], (_mean(_aurocs(trials, arm, fraction)) for fraction in _fractions(trials)))
            for arm in _arms(trials)
        ),
        subheads=(
            Row.of("ECGs with their labels", (_label_counts(trials, fraction) for fraction in _fractions(trials))),
        ),
        notes=("A seed draws the labelled patients, random weights and the order of the recordings.",),
    )
    rows = [
        Row.of(
            f"{NAMES[first]} minus {NAMES[other]}",
            (_text(_gaps(trials, first, other, fraction)) for fraction in _fractions(trials)),
        )
        for first, other in _pairs(trials)
    ]
    differences = Table(
        name="label_efficiency_differences",
        caption=f"Mean paired difference of AUROC over seeds ({CONFIDENCE:.0%} interval)",
        head="Labels of",
        columns=means.columns,
        rows=tuple(rows),
        notes=(
            "Paired: both of a seed learnt from the same labels. The interval is Student's t over seeds: it allows for "
            "other labels and weights, not for other test patients, and not for several comparisons.",
        ),
    )
    heads = ("share", "seed", "labels", "AUROC", *trials[0].about)
    runs = Table(
        name="label_efficiency_runs",
        caption="Every fine-tuning",
        head="arm",
        columns=heads,
        rows=tuple(
            Row.of(
                one.arm,
                (f"{one.fraction:g}", str(one.seed), str(one.labels), f"{one.auroc:.6f}", *one.about.values()),
            )
            for one in trials
        ),
    )
    picture = Picture("label_efficiency", f"{means.caption}; a dot a seed", label_efficiency_figure(trials))
    remarks = tuple(
        _sentence(trials, *pair, fraction)
        for fraction in _fractions(trials)
        for pair in _pairs(trials)
        if len(_gaps(trials, *pair, fraction))
    )
    part = Part("AUROC against the number of labels", remarks, (means, differences) if rows else (means,), (picture,))
    return Document("Label efficiency", f"Made by keras_ecg_mae {__version__}.", (part,), (runs,))


def label_efficiency_figure(trials: Sequence[Trial]) -> bytes:
    """AUROC over the number of labels, a line an arm through the means, a dot a seed. Returns a PNG file."""
    figure = Figure(figsize=(7.5, 4.8), layout="constrained")
    axes = figure.add_subplot()
    for color, arm in zip(COLORS, _arms(trials), strict=False):
        own = [trial for trial in trials if trial.arm == arm]
        axes.plot([one.labels for one in own], [one.auroc for one in own], "o", color=color, markersize=3, alpha=0.5)
        points = [
            (np.mean([one.labels for one in own if one.fraction == fraction]), np.mean(_aurocs(trials, arm, fraction)))
            for fraction in _fractions(own)
        ]
        axes.plot(*zip(*points, strict=True), "o-", color=color, label=NAMES[arm], linewidth=1.8)
    axes.set(xscale="log", xlabel="ECGs with their labels", ylabel=f"AUROC, {trials[0].tested_on}")
    counts = [np.mean([one.labels for one in trials if one.fraction == fraction]) for fraction in _fractions(trials)]
    axes.set_xticks(counts, [f"{count:,.0f}" for count in counts])
    axes.minorticks_off()
    axes.grid(color="#dddddd", linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=9)
    return png(figure)


def _arms(trials: Sequence[Trial]) -> list[str]:
    return list(dict.fromkeys(trial.arm for trial in trials))


def _fractions(trials: Sequence[Trial]) -> list[float]:
    return sorted({trial.fraction for trial in trials})


def _pairs(trials: Sequence[Trial]) -> list[tuple[str, str]]:
    """The first arm with each of the others."""
    first, *others = _arms(trials)
    return [(first, other) for other in others]


def _aurocs(trials: Sequence[Trial], arm: str, fraction: float) -> list[float]:
    return [trial.auroc for trial in trials if (trial.arm, trial.fraction) == (arm, fraction)]


def _gaps(trials: Sequence[Trial], first: str, other: str, fraction: float) -> np.ndarray:
    """AUROC of one arm minus that of another, `(seeds,)`, of the seeds that both have finished."""
    areas = {(trial.arm, trial.seed): trial.auroc for trial in trials if trial.fraction == fraction}
    seeds = [seed for arm, seed in areas if arm == first and (other, seed) in areas]
    return np.array([areas[first, seed] - areas[other, seed] for seed in seeds], float)


def interval_over_seeds(gaps: np.ndarray) -> tuple[float, float] | None:
    """Of the mean, by Student's t at 95%; None of fewer than two seeds."""
    if len(gaps) < 2:
        return None
    half = float(student_t.ppf(0.5 + CONFIDENCE / 2, len(gaps) - 1) * gaps.std(ddof=1) / len(gaps) ** 0.5)
    return float(gaps.mean()) - half, float(gaps.mean()) + half


def _mean(values: Sequence[float]) -> str:
    return f"{np.mean(values):.3f} ({min(values):.3f}-{max(values):.3f})" if values else NOTHING


def _label_counts(trials: Sequence[Trial], fraction: float) -> str:
    counts = [trial.labels for trial in trials if trial.fraction == fraction]
    return f"{min(counts):,}" if min(counts) == max(counts) else f"{min(counts):,} to {max(counts):,}"


def _text(gaps: np.ndarray) -> str:
    if not len(gaps):
        return NOTHING
    interval = interval_over_seeds(gaps)
    bounds = f" ({interval[0]:+.3f} to {interval[1]:+.3f})" if interval else ""
    return f"{gaps.mean():+.3f}{bounds}, {len(gaps)} seed{'s' if len(gaps) > 1 else ''}"


def _sentence(trials: Sequence[Trial], first: str, other: str, fraction: float) -> str:
    gaps = _gaps(trials, first, other, fraction)
    interval = interval_over_seeds(gaps)
    if interval is None:
        verdict = "a single seed has no interval"
    elif interval[0] <= 0 <= interval[1]:
        verdict = "the interval holds 0, so these seeds do not show which is better"
    else:
        verdict = f"the interval lies {'above' if interval[0] > 0 else 'below'} 0"
    return f"With {100 * fraction:g}%, {NAMES[first]} minus {NAMES[other]}: {_text(gaps)}; {verdict}."
