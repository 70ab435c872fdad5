"""Figures of an evaluation, as PNG bytes. Drawn with Matplotlib's objects: no global state, no display needed."""

import io
import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from sklearn.metrics import roc_curve

from keras_ecg_mae.evaluation.metrics import Auroc, OperatingPoint, proportion

# Okabe & Ito's colours, distinct to colour-blind readers, without their yellow, which is too pale for a line on white.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#7F7F7F")


@dataclass(frozen=True)
class Curve:
    """What one institution, or a pool of them, puts into a figure; `labels` and the other arrays are `(ecgs,)`."""

    name: str
    external: bool
    labels: np.ndarray
    probabilities: np.ndarray
    patients: np.ndarray
    auroc: Auroc
    operating_point: OperatingPoint


def roc_figure(curves: Sequence[Curve], title: str, confidence: float) -> bytes:
    """One ROC curve an institution: internal ones solid, external ones dashed, a dot at the operating point.

    An institution whose AUROC is undefined is listed in the legend with the reason. Returns a PNG file.
    """
    figure = Figure(figsize=(5.8, 5.8))
    axes = figure.add_subplot()
    axes.plot([0, 1], [0, 1], color="#999999", linewidth=0.8, linestyle=":")
    for color, curve in zip(colors(len(curves)), curves, strict=True):
        style = "--" if curve.external else "-"
        label = f"{curve.auroc}  {_name(curve)}"
        if curve.auroc.value is None:
            axes.plot([], [], color=color, linestyle=style, label=label)
            continue
        false_positive_rate, true_positive_rate, _ = roc_curve(curve.labels, curve.probabilities)
        axes.plot(
            false_positive_rate, true_positive_rate, color=color, linestyle=style, linewidth=1.8, label=label, zorder=3
        )
        sensitivity, specificity = curve.operating_point.sensitivity.value, curve.operating_point.specificity.value
        if sensitivity is not None and specificity is not None:
            axes.plot(1 - specificity, sensitivity, "o", color=color, markeredgecolor="white", markersize=7, zorder=4)
    for threshold in {curve.operating_point.threshold for curve in curves}:
        label = f"at the threshold {threshold:.3g}"
        axes.plot([], [], "o", color="#444444", markeredgecolor="white", markersize=7, label=label)
    axes.set(xlabel="1 - specificity", ylabel="Sensitivity", title=plain(title))
    square(axes)
    # Beside the axes, where no curve is hidden; the file grows with the longest name.
    axes.legend(
        title=f"AUROC ({100 * confidence:g}% CI)",
        alignment="left",
        loc="center left",
        bbox_to_anchor=(1.02, 0.5),
        frameon=False,
        fontsize=9,
        handlelength=2.8,
    )
    return png(figure)


def calibration_figure(curves: Sequence[Curve], title: str, confidence: float) -> bytes:
    """Reliability diagram: observed share of positives, with intervals, over the mean probability in equal-count bins.

    Bins hold at least 20 ECGs where there are as many, and are ten at most. Returns a PNG file.
    """
    figure = Figure(figsize=(5.8, 5.8))
    axes = figure.add_subplot()
    axes.plot([0, 1], [0, 1], color="#999999", linewidth=0.8, linestyle=":", label="perfectly calibrated")
    for color, curve in zip(colors(len(curves)), curves, strict=True):
        if len(curve.labels) == 0:
            continue
        bins = _equal_count_bins(curve.probabilities)
        shares = [proportion(curve.labels[rows] == 1, curve.patients[rows], confidence) for rows in bins]
        observed = np.array([share.value for share in shares], dtype=float)
        bounds = np.array([[share.low, share.high] for share in shares], dtype=float).T
        axes.errorbar(
            [float(curve.probabilities[rows].mean()) for rows in bins],
            observed,
            yerr=np.maximum(np.stack([observed - bounds[0], bounds[1] - observed]), 0.0),
            color=color,
            linestyle="--" if curve.external else "-",
            marker="s" if curve.external else "o",
            markerfacecolor="white" if curve.external else color,
            markersize=5,
            linewidth=1.4,
            elinewidth=0.9,
            capsize=2,
            label=f"{shortened(curve.name)}, {len(curve.labels):,} ECGs",
        )
    axes.set(xlabel="Mean predicted probability", ylabel="Observed share of positives", title=plain(title))
    square(axes)
    axes.legend(loc="upper left", frameon=False, fontsize=9)
    return png(figure)


def learning_curves_figure(pretraining: pd.DataFrame | None, finetuning: Mapping[str, pd.DataFrame]) -> bytes:
    """Losses and validations of a run's trainings, from the rows of their `metrics.csv`. Returns a PNG file.

    Args:
        pretraining: its error on hidden patches by step, as a share of the variance; None without one of the run's own.
        finetuning: cross-entropy by epoch, a table for each learning rate.
    """
    figure = Figure(figsize=(10, 3.6), layout="constrained")
    axes = figure.subplots(1, 2 if pretraining is not None else 1, squeeze=False)[0]
    if pretraining is not None:
        validated = pretraining.dropna(subset="validation_error")
        axes[0].plot(pretraining["step"], pretraining["loss"], color=COLORS[0], label="training")
        axes[0].plot(validated["step"], validated["validation_error"], "o-", color=COLORS[1], label="validation")
        trivial = validated["validation_lead_visible_mean"].iloc[-1]
        axes[0].axhline(trivial, color="#999999", linestyle=":", label="the mean of the lead's visible patches")
        axes[0].set(title="Pretraining", xlabel="Step", ylabel="Error on hidden patches", ylim=(0, None))
    for color, (rate, rows) in zip(colors(len(finetuning)), finetuning.items(), strict=True):
        epochs = rows["epoch"] + 1
        axes[-1].plot(epochs, rows["loss"], "--", color=color, label=f"{rate}, training")
        axes[-1].plot(epochs, rows["validation_loss"], "o-", color=color, label=f"{rate}, validation")
    axes[-1].set(title="Fine-tuning, by learning rate", xlabel="Epoch", ylabel="Cross-entropy", ylim=(0, None))
    for one in axes:
        one.grid(color="#dddddd", linewidth=0.6)
        one.spines[["top", "right"]].set_visible(False)
        one.legend(frameon=False, fontsize=9)
    return png(figure)


def _equal_count_bins(probabilities: np.ndarray) -> list[np.ndarray]:
    """Row numbers a bin; equal probabilities share a bin."""
    count = int(np.clip(len(probabilities) // 20, 1, 10))
    inner = np.unique(np.quantile(probabilities, np.arange(1, count) / count))
    places = np.searchsorted(inner, probabilities, side="right")
    return [np.flatnonzero(places == place) for place in np.unique(places)]


def colors(count: int) -> list[str]:
    """As many as are asked for; they come again after eight."""
    return (list(COLORS) * math.ceil(count / len(COLORS)))[:count]


def _name(curve: Curve) -> str:
    role = "external" if curve.external else "internal"
    return f"{shortened(curve.name)}, {role}, n = {len(curve.labels):,}"


def shortened(name: str) -> str:
    """A name of at most 28 characters."""
    return plain(name if len(name) <= 28 else f"{name[:26]}...")


def plain(text: str) -> str:
    """Text that Matplotlib shows as it is: no formula between dollar signs."""
    return text.replace("$", r"\$")


def square(axes: Axes) -> None:
    """Axes from 0 to 1 of one length."""
    axes.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01), aspect="equal")
    axes.set_xticks(np.linspace(0, 1, 6))
    axes.set_yticks(np.linspace(0, 1, 6))
    axes.grid(color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def png(figure: Figure) -> bytes:
    """The PNG file of a figure."""
    content = io.BytesIO()
    with warnings.catch_warnings():
        # An institution named in a script the font lacks is drawn as boxes; the tables have the name.
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        figure.savefig(content, format="png", dpi=150, bbox_inches="tight")
    return content.getvalue()
