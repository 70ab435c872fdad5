"""Figures hold what their legends say, for one institution and for many."""

import io

import numpy as np
import pytest
from matplotlib.container import ErrorbarContainer
from matplotlib.figure import Figure
from matplotlib.image import imread

from keras_ecg_mae.evaluation import figures
from keras_ecg_mae.evaluation.figures import Curve, calibration_figure, roc_figure
from keras_ecg_mae.evaluation.metrics import auroc, operating_point


def curve(name: str, external: bool, size: int = 60, prevalence: float = 0.4) -> Curve:
    generator = np.random.default_rng(len(name))
    labels, patients = (generator.random(size) < prevalence).astype(int), np.arange(size)
    scores = np.clip(0.3 + 0.3 * labels + 0.2 * generator.normal(size=size), 0, 1)
    return Curve(
        name,
        external,
        labels,
        scores,
        patients,
        auroc(labels, scores, patients),
        operating_point(labels, scores, patients, 0.4),
    )


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """The figures that were drawn, kept before they became bytes."""
    kept: list[Figure] = []
    png = figures.png

    def keep(figure: Figure) -> bytes:
        kept.append(figure)
        return png(figure)

    monkeypatch.setattr(figures, "png", keep)
    return kept


def test_roc_draws_internal_solid_and_external_dashed(drawn: list[Figure]) -> None:
    curves = [curve("home", False), curve("abroad", True), curve("healthy", True, prevalence=0.0)]
    image = imread(io.BytesIO(roc_figure(curves, "lvsd", 0.95)))
    assert image.shape[0] > 600
    assert image.shape[1] > image.shape[0]
    legend = drawn[0].axes[0].get_legend()
    assert legend is not None
    assert legend.get_title().get_text() == "AUROC (95% CI)"
    entries = {
        text.get_text(): line.get_linestyle() for text, line in zip(legend.get_texts(), legend.get_lines(), strict=True)
    }
    home, abroad = curves[0].auroc, curves[1].auroc
    assert entries == {
        f"{home.value:.3f} ({home.low:.3f}-{home.high:.3f})  home, internal, n = 60": "-",
        f"{abroad.value:.3f} ({abroad.low:.3f}-{abroad.high:.3f})  abroad, external, n = 60": "--",
        "undefined (no positive ECG)  healthy, external, n = 60": "--",
        "at the threshold 0.4": "None",
    }


def test_roc_tells_eight_institutions_apart(drawn: list[Figure]) -> None:
    roc_figure([curve("x" * number, number > 4) for number in range(1, 9)], "lvsd", 0.95)
    legend = drawn[0].axes[0].get_legend()
    assert legend is not None
    assert len({line.get_color() for line in legend.get_lines()[:8]}) == 8


def points(figure: Figure) -> tuple[np.ndarray, np.ndarray]:
    """Where the one series of a calibration figure has its markers."""
    (container,) = figure.axes[0].containers
    assert isinstance(container, ErrorbarContainer)
    assert container.lines[0] is not None
    predicted, observed = container.lines[0].get_data()
    return np.asarray(predicted), np.asarray(observed)


def test_calibration_points_are_the_bins(drawn: list[Figure]) -> None:
    pool = curve("all internal", False, size=200)
    calibration_figure([pool, curve("all external", True, size=0)], "lvsd", 0.95)
    predicted, observed = points(drawn[0])
    order = np.argsort(pool.probabilities)
    assert len(predicted) == 10
    # Twenty ECGs a bin; clipped probabilities at 0 and 1 stay together.
    inside = order[20:40]
    assert predicted[1] == pytest.approx(pool.probabilities[inside].mean())
    assert observed[1] == pytest.approx(pool.labels[inside].mean())
    constant = Curve("c", False, pool.labels, np.full(200, 0.3), pool.patients, pool.auroc, pool.operating_point)
    assert calibration_figure([constant], "lvsd", 0.95)
    assert len(points(drawn[1])[0]) == 1
