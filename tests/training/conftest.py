"""Trainings of seconds: a smaller model under the name `tiny`, and one pretraining that many tests look at."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from keras_ecg_mae.config import Config, Model, Pretraining, Training
from keras_ecg_mae.dataset import Manifest
from keras_ecg_mae.models.build import ARCHITECTURES, Architecture, Transformer
from keras_ecg_mae.training.pretrain import pretrain

SMALLEST = Architecture(Transformer(32, 2, 2), Transformer(16, 1, 2))
# For a process of its own.
MAKE_TINY_SMALLEST = f"""
from keras_ecg_mae.models.build import ARCHITECTURES, Architecture, Transformer
ARCHITECTURES["tiny"] = {SMALLEST!r}
"""


@pytest.fixture
def smallest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ARCHITECTURES, "tiny", SMALLEST)


@pytest.fixture
def tiny_config(tiny_config: Config, smallest: None) -> Config:
    return tiny_config


@dataclass(frozen=True)
class Pretrained:
    """A pretraining that was not interrupted: its settings, its folder and what it returned."""

    config: Config
    folder: Path
    result: dict[str, Any]


@pytest.fixture(scope="session")
def whole(simulated: Manifest, tmp_path_factory: pytest.TempPathFactory) -> Pretrained:
    folder = tmp_path_factory.mktemp("whole")
    config = Config(
        model=Model(size="tiny"),
        training=Training(dataset=simulated.folder, run="run", checkpoint_minutes=0, profile_steps=3),
        pretraining=Pretraining(
            epochs=2, batch_size=8, base_learning_rate=1.6e-2, warmup_epochs=1, validation_epochs=1, time_shift=True
        ),
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(ARCHITECTURES, "tiny", SMALLEST)
        return Pretrained(config, folder, pretrain(config, simulated, folder))
