"""What one set of versions makes, the other reads; skipped where no environment of the other is in the checkout."""

import json
import os
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pytest

REPOSITORY = Path(__file__).resolve().parent.parent
pytestmark = pytest.mark.slow

# Prints what a process reads of each set's products: sums of all it drew, of weights, and probabilities.
READ = """
import hashlib, json, sys
from pathlib import Path
import keras, numpy as np
from keras_ecg_mae.dataset import Draws, evaluation_batches, read_manifest, training_batches
from keras_ecg_mae.models.build import build_autoencoder
from keras_ecg_mae.serving.exported_model import ExportedModel
from keras_ecg_mae.serving.model_json import weights_sha256

def drawn(batches):
    digest = hashlib.sha256()
    for batch in batches.as_numpy_iterator():
        for name in sorted(batch):
            digest.update(b"".join(batch[name]) if batch[name].dtype == object else batch[name].tobytes())
    return digest.hexdigest()

read = {}
for made in map(Path, sys.argv[1:]):
    manifest = read_manifest(str(made / "dataset"))
    draws = Draws(time_shift=True, mask_noise=True, path_noise=2)
    training = training_batches(manifest, batch_size=16, epochs=2, seed=3, labelled=True, draws=draws)
    validation = evaluation_batches(manifest, ["validation"], batch_size=16, labelled=False, mask_noise_seed=1)
    ecg = next(iter(evaluation_batches(manifest, ["test"], batch_size=16, labelled=True)))["ecg"].numpy()
    files = [made / "run/pretrain/autoencoder.keras", made / "run/finetune/classifier.keras"]
    models = [keras.models.load_model(file, compile=False) for file in files]
    read[made.name] = {
        "drawn": [drawn(training), drawn(validation)],
        "weights": [weights_sha256(model) for model in models],
        "model": keras.ops.sigmoid(models[1](ecg)).numpy().ravel().tolist(),
        "export": ExportedModel(made / "saved/test").classify(ecg).probability.tolist(),
    }
print(json.dumps(read))
"""


def run(python: str, *arguments: str, folder: Path, status: int = 0) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    answer = subprocess.run(
        [python, *arguments], check=False, capture_output=True, text=True, cwd=folder, env=environment
    )
    assert answer.returncode == status, answer.stderr[-3000:]
    return answer


@pytest.fixture(scope="module")
def pythons(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The interpreter of each set, by the release of TensorFlow in it."""
    ask = "from importlib import metadata; print(metadata.version('tensorflow'))"
    found = {metadata.version("tensorflow"): sys.executable}
    for name in (".venv", ".venv-tf216", ".venv-tf221"):
        python = str(REPOSITORY / name / "bin" / "python")
        if Path(python).exists():
            found.setdefault(run(python, "-c", ask, folder=tmp_path_factory.getbasetemp()).stdout.strip(), python)
    if len(found) < 2:
        pytest.skip("no environment of the other set is in the checkout: make SET=tf216 test, or make SET=tf221 test")
    return found


@pytest.fixture(scope="module")
def made(pythons: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder a set, by its TensorFlow: a dataset of the same recordings, a run and an export."""
    folder = tmp_path_factory.mktemp("sets")
    cohort = ["--recordings=recordings", "--labels=recordings/labels.csv"]
    simulate = ["--simulate_patients=60", "--simulate_prevalence=0.3"]
    run(sys.executable, "-m", "keras_ecg_mae.simulate", *cohort, *simulate, folder=folder)
    for name, python in pythons.items():
        prepare = [f"--output={name}/dataset", "--patient_key_file=secret", "--external_institutions=institution_3"]
        run(python, "-m", "keras_ecg_mae.prepare", *cohort, *prepare, folder=folder)
        run(python, "-m", "keras_ecg_mae.train", *train(name), folder=folder)
    return folder


def train(name: str) -> list[str]:
    return [
        f"--dataset={name}/dataset",
        f"--run={name}/run",
        f"--saved_models={name}/saved",
        "--size=tiny",
        "--pretrain_epochs=2",
        "--pretrain_warmup_epochs=1",
        "--pretrain_batch_size=16",
        "--pretrain_validation_epochs=2",
        "--finetune_epochs=1",
        "--finetune_batch_size=16",
        "--finetune_learning_rates=1e-3",
        "--name=test",
        "--export_despite_gate",
    ]


def test_the_same_recordings_are_the_same_records(pythons: dict[str, str], made: Path) -> None:
    ours, theirs = (made / name / "dataset" for name in pythons)
    shards = sorted(path.relative_to(ours) for path in ours.rglob("*.tfrecord"))
    assert len(shards) > 5
    for name in shards:
        assert (ours / name).read_bytes() == (theirs / name).read_bytes(), name
    manifests = [json.loads((folder / "manifest.json").read_text()) for folder in (ours, theirs)]
    assert manifests[0].pop("versions") != manifests[1].pop("versions")
    assert manifests[0] == manifests[1]


def test_each_reads_what_both_have_made(pythons: dict[str, str], made: Path) -> None:
    def read(python: str) -> dict[str, Any]:
        answer: dict[str, Any] = json.loads(run(python, "-c", READ, *pythons, folder=made).stdout.splitlines()[-1])
        return answer

    ours, theirs = map(read, pythons.values())
    drawn = [product["drawn"] for reader in (ours, theirs) for product in reader.values()]
    assert all(each == drawn[0] for each in drawn)
    for name in pythons:
        assert ours[name]["weights"] == theirs[name]["weights"]
        for answer in ("model", "export"):
            np.testing.assert_allclose(ours[name][answer], theirs[name][answer], atol=1e-5)
        np.testing.assert_allclose(ours[name]["model"], ours[name]["export"], atol=1e-5)


def test_a_training_is_not_resumed_in_the_other_set(pythons: dict[str, str], made: Path) -> None:
    (ours, python), (theirs, other) = pythons.items()
    shutil.copytree(made / ours, made / "stopped" / "of_ours")
    arguments = train("stopped/of_ours")
    for name in ("done.json", "autoencoder.keras"):
        (made / "stopped/of_ours/run/pretrain" / name).unlink()
    shutil.rmtree(made / "stopped/of_ours/run/finetune")
    refused = run(other, "-m", "keras_ecg_mae.train", *arguments, "--stages=pretrain", folder=made, status=1)
    ours, theirs = (".".join(name.split(".")[:2]) for name in (ours, theirs))
    assert f"Expected checkpoints of TensorFlow {theirs}, this process's. Received those of {ours}" in refused.stderr
    run(python, "-m", "keras_ecg_mae.train", *arguments, "--stages=pretrain", folder=made)
