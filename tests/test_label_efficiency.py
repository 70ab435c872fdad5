"""The command label_efficiency: every arm, and going on where it stopped."""

from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from keras_ecg_mae.config import ARMS, Config, Finetuning, LabelEfficiency
from keras_ecg_mae.errors import ConfigError
from keras_ecg_mae.files import read_json
from keras_ecg_mae.label_efficiency import main


def study(config: Config, seeds: tuple[int, ...], arms: tuple[str, ...] = ARMS) -> Config:
    return replace(
        config,
        finetuning=Finetuning(epochs=1, patience=1, batch_size=4, learning_rates=(1e-3,)),
        label_efficiency=LabelEfficiency(arms=arms, label_fractions=(0.5,), seeds=seeds, longer=2),
    )


@pytest.mark.slow
def test_each_arm_of_each_seed_is_a_run_and_is_done_once(
    tiny_config: Config, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = Path(tiny_config.training.run) / "label_efficiency"
    assert main(study(tiny_config, (4,)), []) == 0
    assert "a single seed has no interval" in capsys.readouterr().out
    first = {path: path.stat().st_mtime_ns for path in folder.glob("*_4/*/done.json")}
    assert len(first) == 2 * len(ARMS)
    settings = {arm: read_json(folder / f"{arm}_50_4/finetune/settings.json") or {} for arm in ARMS}
    encoder = f"{tiny_config.training.run}/pretrain/autoencoder.keras"
    assert {
        arm: (one["encoder"], one["trained"], one["epochs"], one["architecture"]) for arm, one in settings.items()
    } == {
        "pretrained": (encoder, "all", 1, "vit"),
        "random": ("random", "all", 1, "vit"),
        "random_longer": ("random", "all", 2, "vit"),
        "linear_probe": (encoder, "head", 1, "vit"),
        "frozen_random": ("random", "head", 1, "vit"),
        "cnn": ("random", "all", 1, "cnn"),
    }
    patients = {(folder / f"{arm}_50_4/finetune/patients.txt").read_bytes() for arm in ARMS}
    assert len(patients) == 1
    assert main(study(tiny_config, (4, 5), ("pretrained", "cnn")), []) == 0
    assert {path: path.stat().st_mtime_ns for path in first} == first
    runs = pd.read_csv(folder / "report" / "label_efficiency_runs.csv")
    assert list(runs["arm"] + runs["seed"].astype(str)) == ["pretrained4", "cnn4", "pretrained5", "cnn5"]
    assert "2 seeds; the interval" in capsys.readouterr().out


def test_another_recipe_is_refused(tiny_config: Config) -> None:
    with pytest.raises(ConfigError, match=r"--finetune_recipe to be paper"):
        main(replace(tiny_config, finetuning=Finetuning(recipe="mae")), [])
