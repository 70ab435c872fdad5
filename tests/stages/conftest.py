"""What the tests of stages share."""

import pytest


@pytest.fixture(autouse=True)
def no_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Evaluations without figures, which take most of their time; tests/evaluation/test_figures.py is about those."""
    from keras_ecg_mae.evaluation import evaluate

    for name in ("roc_figure", "calibration_figure"):
        monkeypatch.setattr(evaluate, name, lambda *arguments: b"")
