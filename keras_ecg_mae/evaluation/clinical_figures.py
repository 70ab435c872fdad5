"""Figures of what probabilities are worth at the bedside, as PNG bytes: calibration, decisions, outcomes, forests."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure

from keras_ecg_mae.evaluation.calibration import CalibrationCurve
from keras_ecg_mae.evaluation.clustered import Estimate, Sample
from keras_ecg_mae.evaluation.decision import NetBenefit
from keras_ecg_mae.evaluation.figures import COLORS, colors, plain, png, shortened, square
from keras_ecg_mae.evaluation.thresholds import (
    LikelihoodRatios,
    negative_predictive_value,
    positive_predictive_value,
)


def smooth_calibration_figure(curves: Sequence[tuple[str, CalibrationCurve]]) -> bytes:
    """The observed share over the predicted probability, with bands. Returns a PNG file."""
    figure = Figure(figsize=(5.8, 5.8))
    axes = figure.add_subplot()
    axes.plot([0, 1], [0, 1], color="#666666", linewidth=0.8, linestyle=":", label="perfectly calibrated")
    for color, (name, curve) in zip(colors(len(curves)), curves, strict=True):
        axes.fill_between(curve.predicted, curve.low, curve.high, color=color, alpha=0.18, linewidth=0)
        axes.plot(curve.predicted, curve.observed, color=color, linewidth=1.8, label=shortened(name))
    axes.set(xlabel="Predicted probability", ylabel="Observed share of positives")
    square(axes)
    axes.legend(loc="upper left", frameon=False, fontsize=9)
    return png(figure)


def decision_figure(curves: Sequence[tuple[str, Sequence[NetBenefit]]]) -> bytes:
    """Net benefit over thresholds, a panel a group, with referring all and none. Returns a PNG file."""
    figure = Figure(figsize=(5.2 * len(curves), 4.2), layout="constrained")
    panels = figure.subplots(1, len(curves), squeeze=False)[0]
    for axes, (name, points) in zip(panels, curves, strict=True):
        thresholds = [point.threshold for point in points]
        bounds = np.array([[point.model.low, point.model.high] for point in points], dtype=float).T
        axes.fill_between(thresholds, *bounds, color=COLORS[0], alpha=0.18, linewidth=0)
        axes.plot(thresholds, [point.model.value for point in points], color=COLORS[0], linewidth=1.8, label="model")
        everyone = [point.refer_all for point in points]
        axes.plot(thresholds, everyone, color=COLORS[1], linestyle="--", label="refer all")
        axes.axhline(0, color="#333333", linewidth=1, linestyle=":", label="refer none")
        top = max(everyone[0], np.nanmax(bounds[1], initial=0.01))
        axes.set(xlabel="Threshold probability", ylabel="Net benefit", title=plain(name), ylim=(-0.25 * top, 1.1 * top))
        axes.grid(color="#dddddd", linewidth=0.6)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(loc="upper right", frameon=False, fontsize=9)
    return png(figure)


def outcomes_figure(samples: Sequence[tuple[str, Sample]], threshold: float) -> bytes:
    """How the probabilities of positive and of negative ECGs are spread, a panel a group. Returns a PNG file."""
    figure = Figure(figsize=(5.2 * len(samples), 3.6), layout="constrained")
    panels = figure.subplots(1, len(samples), squeeze=False)[0]
    for axes, (name, sample) in zip(panels, samples, strict=True):
        for color, word, which in ((COLORS[0], "negative", ~sample.positive), (COLORS[1], "positive", sample.positive)):
            if which.any():
                weights = np.full(np.count_nonzero(which), 1 / np.count_nonzero(which))
                label = f"{word}, {np.count_nonzero(which):,} ECGs"
                bins = np.linspace(0, 1, 41)
                axes.hist(sample.probabilities[which], bins, weights=weights, color=color, alpha=0.55, label=label)
        axes.axvline(threshold, color="#333333", linewidth=1, linestyle=":", label=f"threshold {threshold:.3g}")
        axes.set(xlabel="Predicted probability", ylabel="Share of the ECGs with this label", title=plain(name))
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(loc="upper center", frameon=False, fontsize=9)
    return png(figure)


@dataclass(frozen=True)
class ForestRow:
    """A line of a forest plot; `summary` ones are drawn as diamonds, with their prediction interval if there is one."""

    name: str
    value: float | None
    low: float | None
    high: float | None
    summary: bool = False
    prediction: tuple[float, float] | None = None


def forest_figure(panels: Sequence[tuple[str, float | None, Sequence[ForestRow]]]) -> bytes:
    """A panel a measure: its name, the value that is right (None for none), and rows in one order. Returns a PNG."""
    count = len(panels[0][2])
    figure = Figure(figsize=(3.2 + 3.2 * len(panels), 0.9 + 0.3 * count), layout="constrained")
    drawn = figure.subplots(1, len(panels), squeeze=False, sharey=True)[0]
    for axes, (measure, right, rows) in zip(drawn, panels, strict=True):
        if right is not None:
            axes.axvline(right, color="#666666", linewidth=0.8, linestyle=":")
        for place, row in enumerate(rows):
            if row.prediction is not None:
                axes.plot(row.prediction, [place] * 2, color=COLORS[1], linewidth=1)
            if row.value is not None:
                if row.low is not None and row.high is not None:
                    axes.plot([row.low, row.high], [place] * 2, color=COLORS[0], linewidth=2.4 if row.summary else 1.4)
                axes.plot([row.value], [place], "D" if row.summary else "o", color=COLORS[0], markersize=5)
        axes.set(xlabel=measure, ylim=(count - 0.5, -0.5))
        axes.grid(color="#eeeeee", linewidth=0.6)
        axes.spines[["top", "right"]].set_visible(False)
    drawn[0].set_yticks(range(count), [shortened(row.name) for row in panels[0][2]])
    return png(figure)


def prevalence_figure(ratios: LikelihoodRatios, marked: Sequence[tuple[str, float]]) -> bytes:
    """PPV and NPV over prevalences of 0.5 to 20%, each institution at its own. Returns a PNG file.

    Args:
        marked: names and shares of positives; those beyond 20% are left out.
    """
    figure = Figure(figsize=(10.4, 4.2), layout="constrained")
    grid = np.geomspace(0.005, 0.2, 60)
    for axes, word, function in zip(
        figure.subplots(1, 2), ("PPV", "NPV"), (positive_predictive_value, negative_predictive_value), strict=True
    ):
        points: list[Estimate] = [function(ratios, share) for share in grid]
        bounds = np.array([[point.low, point.high] for point in points], dtype=float).T
        axes.fill_between(100 * grid, *bounds, color=COLORS[0], alpha=0.18, linewidth=0)
        axes.plot(100 * grid, np.array([point.value for point in points], dtype=float), color=COLORS[0], linewidth=1.8)
        for color, (name, share) in zip(colors(len(marked)), marked, strict=True):
            value = function(ratios, share).value if 0.005 <= share <= 0.2 else None
            if value is not None:
                label = f"{shortened(name)}, {share:.1%}"
                axes.plot([100 * share], [value], "o", color=color, markersize=6, label=label)
        axes.set(xscale="log", xlabel="Share of positives (%)", ylabel=word)
        axes.set_xticks([0.5, 1, 2, 5, 10, 20], ["0.5", "1", "2", "5", "10", "20"])
        axes.minorticks_off()
        axes.grid(color="#dddddd", linewidth=0.6)
        axes.spines[["top", "right"]].set_visible(False)
        if axes.get_legend_handles_labels()[0]:
            axes.legend(loc="upper left" if word == "PPV" else "lower left", frameon=False, fontsize=9)
    return png(figure)
