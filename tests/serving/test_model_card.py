"""What a model card says to those who decide on a model."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from keras_ecg_mae.serving.model_card import classifier_card

Make = Callable[..., Any]


CONTENT = {
    "name": "mine",
    "settings": {"size": "tiny"},
    "normalization": "record",
    "precision": "float32",
    "weights": {"count": 1234, "sha256": "5d41"},
    "run": "runs/x",
    "dataset": "5d41",
    "trained": None,
    "exported": {"done": "2026-01-02", "git_revision": "0123abc"},
}


def card(provenance: Any, decision: Any) -> str:
    return classifier_card(provenance, decision, CONTENT)


def test_it_holds_data_figures_intended_use_and_limits(provenance: Make, decision: Make) -> None:
    text = card(provenance(), decision())
    assert "left ventricular systolic dysfunction (ejection fraction under 40%)." in text
    assert "Not a medical device." in text
    assert "## Limits" in text
    assert "at least 0.4: largest sum (Youden)." in text
    lines = text.splitlines()
    assert "| a | train | 1,234 | 300 | 900 | 50 |" in lines
    assert "| b\\|c | test | 90 | 0 | 95 | 5 |" in lines
    accuracy = "| a | internal | 1,200 | 900 | 40 | 0.910 (0.850 to 0.950) | 0.750 (0.300 to 0.950) "
    assert any(line.startswith(accuracy) for line in lines)
    assert any(line.startswith("| b\\|c | internal | 1,200 | 900 | 0 | undefined | undefined |") for line in lines)
    assert "External to this dataset: b\\|c." in text
    assert "Fine-tuning learnt from the labels of 1,200 train ECGs" in text
    assert "* Pretraining saw, without labels, the train and test ECGs of a (dataset datasets/x, run runs/y)." in text
    assert "more than 0 leads move less than 5 uV" in text
    assert "more than 20 mV from the median, or no lead with 20 uV" in text
    assert "| size | tiny |" in lines
    assert "| weights | 1,234, SHA-256 5d41 |" in lines
    assert not any(line.startswith("| trained |") for line in lines)
    assert "refused" not in text


def test_a_stand_in_label_is_not_called_lvsd(provenance: Make, decision: Make) -> None:
    text = card(provenance("abnormal_rhythm"), decision("abnormal_rhythm"))
    assert "the probability of `abnormal_rhythm`" in text
    assert "nothing here is about left ventricular systolic dysfunction" in text
    assert text.count("left ventricular") == 1
    assert "LVSD" not in text
    assert "ejection" not in text


def test_what_was_exported_all_the_same_says_why(provenance: Make, decision: Make) -> None:
    text = card(provenance(), decision(refused=["Expected better.\n# Received worse."]))
    assert "## Exported although it was to be refused\n\n* Expected better. # Received worse.\n" in text


def test_words_of_a_table_stay_in_their_cell(provenance: Make, decision: Make) -> None:
    text = card(provenance("x` |\n# y"), decision("x` |\n# y"))
    assert "`x' | # y`" in text
    assert "\n# y" not in text


def test_an_autoencoders_card_claims_no_disease(exported_autoencoder: Path) -> None:
    text = (exported_autoencoder / "assets" / "model_card.md").read_text()
    assert "| the model, on hidden patches | 0.600 |" in text
    assert "makes no statement about a disease" in text
    assert "on validation recordings, on which it was trained as well:" in text
    assert "AUROC" not in text
