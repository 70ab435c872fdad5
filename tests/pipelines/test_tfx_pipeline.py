"""The TFX pipeline from recordings to a pushed model, and a worse model that is not pushed. `make tfx` runs it."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent.parent

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(importlib.util.find_spec("tfx") is None, reason="TFX is in .venv-tfx: `make tfx` runs this"),
]

SMALL = ["--size=tiny", "--finetune_batch_size=16", "--name=lvsd"]


def run(*arguments: str) -> str:
    """Runs a program of the checkout with this interpreter; TFX's libraries warn of much."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", *arguments],
        cwd=REPOSITORY,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-5000:]
    return done.stdout


def pipeline() -> ModuleType:
    spec = importlib.util.spec_from_file_location("tfx_pipeline", REPOSITORY / "pipelines" / "tfx_pipeline.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("image", [True, False])
def test_a_server_tries_the_model_where_docker_has_one(
    image: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from keras_ecg_mae.config import Config, Finetuning, Training

    docker = tmp_path / "bin" / "docker"
    docker.parent.mkdir()
    docker.write_text(f"#!/bin/sh\n[ \"$*\" = 'image inspect tensorflow/serving:2.16.1' ] && exit {int(not image)}\n")
    docker.chmod(0o755)
    monkeypatch.setenv("PATH", str(docker.parent), prepend=":")
    config = Config(training=Training(run=str(tmp_path)), finetuning=Finetuning(encoder="random"))
    dataset = SimpleNamespace(
        folder=str(tmp_path), count=lambda **_: 0, label_name="lvsd", external_institutions=(), settings={}
    )
    components = {component.id: component for component in pipeline().create_pipeline(config, dataset).components}
    assert ("InfraValidator" in components) == image
    assert ("infra_blessing" in components["Pusher"].inputs) == image


@pytest.mark.filterwarnings("ignore")  # TFX's libraries warn of much
@pytest.mark.parametrize(
    ("institution", "auc", "change", "blessed"),
    [
        ("", 0.90, 0.02, True),
        ("", 0.90, 0.0, False),
        ("", 0.49, 0.02, False),
        ("a", 1.0, 0.0, True),
        ("a", 0.949, -0.001, True),
        ("a", 0.4, 0.1, False),
    ],
)
def test_a_better_model_overall_may_tie_at_an_institution(
    institution: str, auc: float, change: float, blessed: bool
) -> None:
    from tensorflow_model_analysis.evaluators import metrics_validator
    from tensorflow_model_analysis.metrics import metric_specs
    from tensorflow_model_analysis.utils import config_util

    from keras_ecg_mae.config import Export

    settings = Export(export_minimum_auroc=0.5, export_minimum_institution_auroc=0.45)
    config = config_util.update_eval_config_with_defaults(pipeline().evaluation("lvsd", settings), has_baseline=True)
    keys = metric_specs.metric_thresholds_from_metrics_specs(config.metrics_specs, eval_config=config)
    metrics = {key: change if key.is_diff else auc for key in keys}
    place = (("institution", institution),) if institution else ()
    found = metrics_validator.validate_metrics((place, metrics), config)
    assert found.validation_ok == blessed


def test_a_model_is_pushed_and_a_worse_one_is_not(tmp_path: Path) -> None:
    import pandas as pd

    recordings, dataset, pipeline = tmp_path / "recordings", tmp_path / "dataset", tmp_path / "pipeline"
    table = recordings / "labels.csv"
    run("-m", "keras_ecg_mae.simulate", f"--recordings={recordings}", f"--labels={table}", "--simulate_patients=150")
    rows = pd.read_csv(table)
    rows[rows["lvef"].notna()].to_csv(table, index=False)
    prepared = [f"--recordings={recordings}", f"--labels={table}", f"--output={dataset}"]
    run("-m", "keras_ecg_mae.prepare", *prepared, "--external_institutions=institution_3")
    own = [f"--dataset={dataset}", *SMALL, f"--saved_models={tmp_path / 'saved_models'}"]
    pretrained = tmp_path / "pretrained"
    one_epoch = ["--pretrain_epochs=1", "--pretrain_warmup_epochs=0", "--pretrain_batch_size=16"]
    run("-m", "keras_ecg_mae.train", *own, f"--run={pretrained}", "--stages=pretrain", *one_epoch)

    encoder = f"--finetune_encoder={pretrained / 'pretrain' / 'autoencoder.keras'}"
    pipe = ["pipelines/tfx_pipeline.py", *own, f"--run={pipeline}", encoder, "--export_minimum_auroc=0.01"]
    run(*pipe, "--finetune_epochs=12", "--finetune_learning_rates=1e-3")
    versions = list((tmp_path / "saved_models" / "lvsd").iterdir())
    assert len(versions) == 1
    assert (versions[0] / "saved_model.pb").is_file()
    assert list(pipeline.glob("Evaluator/blessing/*/BLESSED"))

    # One step at a rate of nothing: the head's own random numbers.
    run(*pipe, "--finetune_epochs=1", "--finetune_learning_rates=1e-9")
    assert list(pipeline.glob("Evaluator/blessing/*/NOT_BLESSED"))
    assert list((tmp_path / "saved_models" / "lvsd").iterdir()) == versions
