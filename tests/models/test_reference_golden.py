"""Our masked autoencoder beside the published implementation's numbers, on ECG-shaped input.

`tests/golden/mae_reference.npz` holds what the reference implementation of He et al. 2022 computed in float64 on a
small configuration with random weights; tests/golden/README.md says what is in it. Every other file of this kind
beside it, or in the folder that ECG_MAE_GOLDEN names, is held against ours as well.
"""

import importlib.util
import os
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from keras_ecg_mae.models.autoencoder import MaskedAutoencoder, reconstruction_loss
from keras_ecg_mae.models.build import Architecture, Transformer, build_autoencoder
from keras_ecg_mae.models.published_weights import load_autoencoder_weights, state_dict

FOLDERS = [Path(__file__).resolve().parents[1] / "golden"]
if "ECG_MAE_GOLDEN" in os.environ:
    FOLDERS.append(Path(os.environ["ECG_MAE_GOLDEN"]))
FILES = [path for folder in FOLDERS for path in sorted(folder.glob("*.npz"))]
TARGETS = {"raw_patch": False, "norm_patch": True}
RATES = (1e-3, 8e-4, 5e-4)

golden_files = pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
targets = pytest.mark.parametrize("target", TARGETS)


@cache
def read(path: Path) -> dict[str, np.ndarray]:
    with np.load(path) as archive:
        return {name: archive[name] for name in archive.files}


def autoencoder(golden: dict[str, np.ndarray], target: str) -> MaskedAutoencoder:
    """Built and filled from the file alone: the input is fed as it is."""
    width, depth, heads, decoder_width, decoder_depth, decoder_heads = (int(number) for number in golden["config"])
    model = build_autoencoder(
        Architecture(Transformer(width, depth, heads), Transformer(decoder_width, decoder_depth, decoder_heads)),
        normalization="none",
        mask_ratio=float(golden["mask"].mean()),
        normalize_target=TARGETS[target],
    )
    load_autoencoder_weights(model, parameters(golden))
    return model


def parameters(golden: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name.removeprefix("param/"): value for name, value in golden.items() if name.startswith("param/")}


def relative(received: Any, expected: np.ndarray) -> float:
    expected = np.asarray(expected, np.float64)
    difference = np.asarray(keras.ops.convert_to_numpy(received), np.float64) - expected
    return float(np.linalg.norm(difference) / np.linalg.norm(expected))


def check_forward(path: Path, target: str) -> None:
    golden = read(path)
    output = autoencoder(golden, target)(golden["ecg_mv"], golden["mask_noise"])
    assert relative(output["latent"], golden["latent"]) < 1e-5
    assert relative(output["prediction"], golden["pred"]) < 1e-5
    assert np.array_equal(keras.ops.convert_to_numpy(output["mask"]), golden["mask"])
    loss = float(keras.ops.convert_to_numpy(keras.ops.mean(reconstruction_loss(output))))
    assert loss == pytest.approx(float(golden[f"{target}/loss"]), rel=1e-6)


def test_there_is_a_golden_file() -> None:
    assert FILES


@golden_files
@targets
def test_forward(path: Path, target: str) -> None:
    check_forward(path, target)


@golden_files
@targets
def test_gradients(path: Path, target: str) -> None:
    check_gradients(path, target)


@golden_files
@targets
def test_three_steps_of_adamw(path: Path, target: str) -> None:
    check_three_steps(path, target)


@pytest.mark.slow
@golden_files
@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_forward_gradients_and_three_steps_on_another_backend(path: Path, backend: str) -> None:
    if importlib.util.find_spec(backend) is None:
        pytest.skip(f"{backend} is not installed")
    script = f"""
import sys
from pathlib import Path
sys.path.insert(0, {str(Path(__file__).parent)!r})
import keras
from test_reference_golden import TARGETS, check_forward, check_gradients, check_three_steps
assert keras.backend.backend() == {backend!r}
for target in TARGETS:
    for check in (check_forward, check_gradients, check_three_steps):
        check(Path({str(path)!r}), target)
"""
    environment = {**os.environ, "KERAS_BACKEND": backend, "PYTHONPATH": os.pathsep.join(sys.path)}
    answer = subprocess.run(
        [sys.executable, "-c", script], check=False, capture_output=True, text=True, env=environment
    )
    assert answer.returncode == 0, answer.stderr[-3000:]


def gradients(model: MaskedAutoencoder, golden: dict[str, np.ndarray]) -> tuple[float, list[Any]]:
    """The loss and its gradient with respect to each trained weight, on the backend that Keras has."""
    inputs = golden["ecg_mv"], golden["mask_noise"]
    weights = [variable.value for variable in model.trainable_variables]

    def loss_of(output: Any) -> Any:
        return keras.ops.mean(reconstruction_loss(output))

    if keras.backend.backend() == "jax":
        import jax

        rest = [variable.value for variable in model.non_trainable_variables]
        loss, gradient = jax.value_and_grad(
            lambda trained: loss_of(model.stateless_call(trained, rest, *inputs, training=True)[0])
        )(weights)
        return float(loss), gradient
    if keras.backend.backend() == "torch":
        model.zero_grad()
        loss = loss_of(model(*inputs, training=True))
        loss.backward()
        return float(loss), [weight.grad for weight in weights]
    import tensorflow as tf

    with tf.GradientTape() as tape:
        loss = loss_of(model(*inputs, training=True))
    return float(loss), tape.gradient(loss, weights)


def by_published_name(model: MaskedAutoencoder, values: list[Any]) -> Iterator[tuple[str, np.ndarray]]:
    """What belongs to each trained weight, in the published layout: the values are put in the weights' place."""
    kept = [keras.ops.convert_to_numpy(weight) for weight in model.trainable_variables]
    for weight, value in zip(model.trainable_variables, values, strict=True):
        weight.assign(value)
    published = state_dict(model)
    for weight, value in zip(model.trainable_variables, kept, strict=True):
        weight.assign(value)
    return ((name, value) for name, value in published.items() if "pos_embed" not in name)


def check_gradients(path: Path, target: str) -> None:
    golden = read(path)
    model = autoencoder(golden, target)
    received = dict(by_published_name(model, gradients(model, golden)[1]))
    norms = {name.split("/")[-1]: value for name, value in golden.items() if name.startswith(f"{target}/grad_norm/")}
    assert received.keys() == norms.keys()
    for name, norm in norms.items():
        assert np.linalg.norm(received[name].astype(np.float64)) == pytest.approx(float(norm), rel=1e-4), name
    whole = {name.split("/")[-1]: value for name, value in golden.items() if name.startswith(f"{target}/grad/")}
    assert whole
    for name, gradient in whole.items():
        assert relative(received[name], gradient) < 1e-4, name


def check_three_steps(path: Path, target: str) -> None:
    # Imported here: under Bazel the tests of models/ are built without training/, and this one runs by `make test`.
    from keras_ecg_mae.training.optimizers import AdamW
    from keras_ecg_mae.training.weight_rules import weight_rules

    golden = read(path)
    model = autoencoder(golden, target)
    optimizer = AdamW(RATES[0], weight_rules(model), weight_decay=0.05, beta_1=0.9, beta_2=0.95)
    optimizer.build(model.trainable_variables)
    losses = []
    for rate in RATES:
        loss, step = gradients(model, golden)
        losses.append(loss)
        optimizer.learning_rate = rate
        optimizer.apply(step, model.trainable_variables)
    losses.append(gradients(model, golden)[0])
    assert losses == pytest.approx(golden[f"{target}/adamw_losses"].tolist(), rel=1e-5)
    trained = dict(
        by_published_name(model, [keras.ops.convert_to_numpy(weight) for weight in model.trainable_variables])
    )
    names = [name for name in parameters(golden) if "pos_embed" not in name]
    for name, norm in zip(names, golden[f"{target}/adamw_param_norm"], strict=True):
        assert np.linalg.norm(trained[name].astype(np.float64)) == pytest.approx(float(norm), rel=1e-5), name
