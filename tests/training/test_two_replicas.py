"""What two replicas do, on two logical CPUs of a process of its own."""

import subprocess
import sys
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from keras_ecg_mae.config import Config, Finetuning, MaeFinetuning
from keras_ecg_mae.dataset import Manifest
from keras_ecg_mae.training.finetune import finetune
from keras_ecg_mae.training.log import MetricsLog
from keras_ecg_mae.training.pretrain import pretrain
from tests.training.conftest import MAKE_TINY_SMALLEST, Pretrained

TWO_CPUS = """
import tensorflow as tf
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
"""


def run(script: str) -> str:
    answer = subprocess.run([sys.executable, "-c", TWO_CPUS + script], check=False, capture_output=True, text=True)
    assert answer.returncode == 0, answer.stderr
    return answer.stdout


def run_on_two(config: Config, dataset: Manifest, call: str) -> None:
    """Runs `call`, an expression of `config` and `manifest`, on two replicas, each with its part in two."""
    config = replace(config, training=replace(config.training, strategy="mirrored", accumulation=2))
    run(f"""{MAKE_TINY_SMALLEST}
from pathlib import Path
from keras_ecg_mae.config import *
from keras_ecg_mae.dataset import read_manifest
from keras_ecg_mae.training.finetune import finetune
from keras_ecg_mae.training.pretrain import pretrain
config, manifest = {config!r}, read_manifest({dataset.folder!r})
{call}
""")


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_two_replicas_pretrain_as_one_does(
    optimizer: Any, whole: Pretrained, simulated: Manifest, tmp_path: Path, smallest: None
) -> None:
    config = replace(whole.config, pretraining=replace(whole.config.pretraining, optimizer=optimizer))
    folder = whole.folder if config == whole.config else tmp_path / "one"
    if config != whole.config:
        pretrain(config, simulated, folder)
    run_on_two(config, simulated, f"pretrain(config, manifest, Path({str(tmp_path / 'two')!r}))")
    one, two = (MetricsLog(path, 2).rows for path in (folder, tmp_path / "two"))
    assert [row["loss"] for row in two] == pytest.approx([row["loss"] for row in one], rel=1e-5)
    assert two[1]["validation_error"] == pytest.approx(one[1]["validation_error"], rel=1e-4)


@pytest.mark.slow
def test_stochastic_depth_drops_the_same_on_two_replicas_as_on_one(
    tiny_config: Config, simulated: Manifest, tmp_path: Path
) -> None:
    config = replace(
        tiny_config,
        finetuning=Finetuning(recipe="mae", batch_size=8),
        mae_finetuning=MaeFinetuning(epochs=1, warmup_epochs=0, base_learning_rate=3e-2, drop_path=0.5),
    )
    finetune(config, simulated, tmp_path / "one", None)
    run_on_two(config, simulated, f"finetune(config, manifest, Path({str(tmp_path / 'two')!r}), None)")
    rate = f"{3e-2 * 8 / 256:g}"
    one, two = (MetricsLog(tmp_path / name / rate, 1).rows[0] for name in ("one", "two"))
    assert two["loss"] == pytest.approx(one["loss"], rel=1e-5)
    whole = replace(config, mae_finetuning=replace(config.mae_finetuning, drop_path=0.0))
    finetune(whole, simulated, tmp_path / "whole", None)
    assert MetricsLog(tmp_path / "whole" / rate, 1).rows[0]["loss"] != pytest.approx(one["loss"], rel=1e-4)


@pytest.mark.slow
@pytest.mark.skipif(find_spec("keras_cv") is None, reason="keras-cv is in the set tf216")
def test_keras_cv_drops_the_same_on_every_replica() -> None:
    """Why stochastic depth is ours: were this to change, keras-cv's could take its place."""
    answer = run("""
import keras_cv, numpy as np
strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
with strategy.scope():
    layer = keras_cv.layers.DropPath(0.5)
dropped = strategy.experimental_local_results(strategy.run(lambda: layer(tf.ones((64, 1)), training=True)))
print(len(dropped), np.array_equal(*(part.numpy() for part in dropped)))
""")
    assert answer.split() == ["2", "True"]
