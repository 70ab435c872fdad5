"""Weights in the published naming, into our models and out of them."""

from pathlib import Path
from typing import Any

import keras
import ml_dtypes
import numpy as np
import pytest
from keras.ops import convert_to_numpy
from safetensors.numpy import save_file

from keras_ecg_mae.models.autoencoder import MaskedAutoencoder
from keras_ecg_mae.models.build import (
    ARCHITECTURES,
    Architecture,
    Transformer,
    build_autoencoder,
    build_classifier,
    load_pretrained_encoder,
)
from keras_ecg_mae.models.classifier import Classifier
from keras_ecg_mae.models.published_weights import (
    LICENCE_NOTE,
    load_autoencoder_weights,
    load_classifier_weights,
    state_dict,
)
from keras_ecg_mae.models.state_dict import read_state_dict

SMALL = Architecture(Transformer(16, 2, 2), Transformer(8, 1, 2))
GENERATOR = np.random.default_rng(0)
ECG = GENERATOR.normal(size=(2, 12, 5000)).astype("float32")
NOISE = GENERATOR.random((2, 240), "float32")
HEAD = {"head.weight": np.zeros((1000, 16)), "head.bias": np.zeros(1000)}


def autoencoder(architecture: Architecture = SMALL) -> MaskedAutoencoder:
    return build_autoencoder(architecture, normalization="record", mask_ratio=0.75, normalize_target=False)


def classifier(pooling: str = "mean") -> Classifier:
    return build_classifier(SMALL.encoder, normalization="record", pooling=pooling)


def randomised(model: Any) -> Any:
    """With every weight drawn at random, so that zeros and ones of fresh weights cannot hide a miss."""
    for weight in model.weights:
        weight.assign(GENERATOR.normal(scale=0.1, size=weight.shape))
    return model


def values(model: Any) -> dict[str, np.ndarray]:
    return {weight.path: np.array(convert_to_numpy(weight)) for weight in model.weights}


def changed(model: Any, before: dict[str, np.ndarray]) -> set[str]:
    return {path for path, value in values(model).items() if not np.array_equal(value, before[path])}


def image_weights() -> dict[str, np.ndarray]:
    """What a masked autoencoder of images with our transformer would be published as, with a head."""
    state = state_dict(randomised(autoencoder()))
    state["patch_embed.proj.weight"] = GENERATOR.normal(size=(16, 3, 16, 16))
    state["pos_embed"] = GENERATOR.normal(size=(1, 197, 16))
    return {name: value for name, value in state.items() if not name.startswith(("decoder", "mask"))} | HEAD


@pytest.mark.parametrize("suffix", [".safetensors", ".npz", ".pth"])
def test_an_autoencoder_survives_the_round_trip(tmp_path: Path, suffix: str) -> None:
    model, path = randomised(autoencoder()), tmp_path / f"weights{suffix}"
    state = state_dict(model)
    if suffix == ".safetensors":
        save_file(state, path)
    elif suffix == ".npz":
        np.savez(path, **state)
    else:
        torch = pytest.importorskip("torch")
        torch.save({"model": {name: torch.from_numpy(value) for name, value in state.items()}}, path)
    again = randomised(autoencoder())
    accounting = load_autoencoder_weights(again, read_state_dict(path))
    assert np.array_equal(
        convert_to_numpy(model(ECG, NOISE)["prediction"]), convert_to_numpy(again(ECG, NOISE)["prediction"])
    )
    assert not changed(again, values(model))
    assert {*accounting.loaded, *accounting.skipped} == state.keys()
    assert set(accounting.skipped) == {"pos_embed", "decoder_pos_embed"}
    assert accounting.untouched == ()


def test_the_published_names_and_shapes() -> None:
    shapes = {name: value.shape for name, value in state_dict(autoencoder()).items()}
    assert shapes["cls_token"] == (1, 1, 16)
    assert shapes["pos_embed"] == (1, 241, 16)
    assert shapes["patch_embed.proj.weight"] == (16, 1, 1, 250)
    assert shapes["blocks.1.attn.qkv.weight"] == (48, 16)
    assert shapes["blocks.1.mlp.fc1.weight"] == (64, 16)
    assert shapes["blocks.1.mlp.fc2.bias"] == (16,)
    assert shapes["decoder_embed.weight"] == (8, 16)
    assert shapes["decoder_pred.weight"] == (250, 8)
    assert len(shapes) == 2 * 12 + 12 + 6 + 8  # blocks; tokens, positions, patches and norms; embedding, prediction


def test_the_names_and_shapes_of_the_reference_are_ours(shared: Path) -> None:
    with np.load(shared / "golden" / "mae_reference.npz") as golden:
        parameters = {name.removeprefix("param/"): golden[name] for name in golden.files if name.startswith("param/")}
        encoder, decoder = np.split(golden["config"], 2)
    state = state_dict(autoencoder(Architecture(Transformer(*map(int, encoder)), Transformer(*map(int, decoder)))))
    assert {name: value.shape for name, value in state.items()} == {
        name: value.shape for name, value in parameters.items()
    }
    for name in ("pos_embed", "decoder_pos_embed"):
        assert np.allclose(state[name], parameters[name], atol=1e-6)


def test_an_encoder_without_decoder_loads_where_it_is_asked_for() -> None:
    state = state_dict(randomised(autoencoder()))
    encoder = {name: value for name, value in state.items() if not name.startswith(("decoder", "mask"))}
    model = autoencoder()
    before = values(model)
    with pytest.raises(ValueError, match=r"Received 19 missing, 0 unexpected and 0 misshapen tensors:\n  missing: dec"):
        load_autoencoder_weights(model, encoder)
    for tensors in (encoder, state):
        accounting = load_autoencoder_weights(model, tensors, parts="encoder")
        assert all("decoder" in path for path in accounting.untouched)
        assert set(accounting.untouched) == {weight.path for weight in model.decoder.weights}
        assert {*accounting.loaded, *accounting.skipped} == tensors.keys()
        assert changed(model, before) == {weight.path for weight in model.encoder.weights}
    assert accounting.skipped["mask_token"] == "the decoder was not asked for"


@pytest.mark.parametrize("pooling", ["mean", "class_token"])
def test_a_classifier_takes_the_same_from_the_published_naming_as_from_our_file(pooling: str) -> None:
    pretrained = randomised(autoencoder())
    keras.utils.set_random_seed(1)
    ours, theirs = classifier(pooling), classifier(pooling)
    for weight, value in zip(theirs.weights, ours.weights, strict=True):
        weight.assign(value)
    load_pretrained_encoder(ours, pretrained)
    accounting = load_classifier_weights(theirs, state_dict(pretrained), "encoder")
    assert np.array_equal(convert_to_numpy(ours(ECG)), convert_to_numpy(theirs(ECG)))
    assert {*accounting.loaded, *accounting.skipped} == state_dict(pretrained).keys()
    assert ("norm.weight" in accounting.loaded) == (pooling == "class_token")
    assert accounting.skipped["decoder_blocks.0.attn.qkv.weight"] == "a classifier has no decoder"


@pytest.mark.parametrize("pooling", ["mean", "class_token"])
def test_of_image_weights_only_blocks_norm_and_class_token_are_taken(pooling: str) -> None:
    model, state = randomised(classifier(pooling)), image_weights()
    before = values(model)
    accounting = load_classifier_weights(model, state, "blocks")
    for block in (0, 1):
        qkv = convert_to_numpy(model.encoder.blocks[block].attention.query_key_value.kernel)
        assert np.array_equal(qkv, state[f"blocks.{block}.attn.qkv.weight"].T)
    assert np.array_equal(convert_to_numpy(model.encoder.class_token.token), state["cls_token"])
    fresh = [*model.encoder.patch_embedding.weights, *model.head.weights]
    assert np.array_equal(convert_to_numpy(model.norm.gamma), state["norm.weight"])
    untouched = {weight.path for weight in fresh}
    assert set(accounting.untouched) == untouched
    assert changed(model, before) == before.keys() - untouched
    assert accounting.skipped.keys() == {"patch_embed.proj.weight", "patch_embed.proj.bias", "pos_embed", *HEAD}
    assert {*accounting.loaded, *accounting.skipped} == state.keys()


def test_image_weights_do_not_pass_for_ecg_weights() -> None:
    with pytest.raises(ValueError, match=r"0 missing, 2 unexpected and 2 misshapen") as refusal:
        load_classifier_weights(classifier(), image_weights(), "encoder")
    assert "patch_embed.proj.weight, expected (16, 1, 1, 250), received (16, 3, 16, 16)" in str(refusal.value)
    assert "pos_embed, expected (1, 241, 16), received (1, 197, 16)" in str(refusal.value)


def test_one_error_lists_everything_and_nothing_is_loaded() -> None:
    model, state = autoencoder(), state_dict(randomised(autoencoder()))
    before = values(model)
    del state["decoder_pred.bias"], state["blocks.0.norm1.weight"]
    state |= {"decoder_blocks.0.extra": np.zeros(3, "float32"), "norm.weight": np.zeros(15, "float32")}
    state["pos_embed"] = state["pos_embed"][:, ::-1]
    with pytest.raises(ValueError, match=r"Expected the weights of this model") as refusal:
        load_autoencoder_weights(model, state)
    assert [line.strip() for line in str(refusal.value).splitlines()] == [
        "Expected the weights of this model. Received 2 missing, 1 unexpected and 1 misshapen tensors, "
        "and positions this model has not: 1:",
        "missing: blocks.0.norm1.weight, expected (16,)",
        "missing: decoder_pred.bias, expected (250,)",
        "unexpected: decoder_blocks.0.extra, received (3,)",
        "misshapen: norm.weight, expected (16,), received (15,)",
        "positions: pos_embed, expected sines and cosines of 12 leads x 20 patches, received values up to 1.8 away",
    ]
    assert not changed(model, before)
    del state["cls_token"]
    with pytest.raises(ValueError, match=r"missing: cls_token, expected \(1, 1, 16\)"):
        load_classifier_weights(classifier(), state, "blocks")


def test_a_misspelt_decoder_is_not_skipped() -> None:
    state = state_dict(autoencoder()) | {"decoder_blocks.0.mlp.fc3.weight": np.zeros(3), "my.norm.weight": np.zeros(3)}
    with pytest.raises(ValueError, match=r"0 missing, 2 unexpected and 0 misshapen"):
        load_classifier_weights(classifier(), state, "encoder")


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, np.float64])
def test_positions_may_be_stored_in_another_precision_or_not_at_all(dtype: Any) -> None:
    state = state_dict(autoencoder())
    rounded = {name: value.astype(dtype).astype("float32") for name, value in state.items()}
    assert "pos_embed" in load_autoencoder_weights(autoencoder(), rounded).skipped
    assert not load_autoencoder_weights(
        autoencoder(), {name: value for name, value in state.items() if not name.endswith("pos_embed")}
    ).skipped


@pytest.mark.parametrize(("away", "fits"), [(5e-5, True), (2e-4, False), (np.nan, False)])
def test_other_positions_are_refused(away: float, fits: bool) -> None:
    state = state_dict(autoencoder())
    state["decoder_pos_embed"][0, 7, 3] += away
    if fits:
        load_autoencoder_weights(autoencoder(), state)
    else:
        with pytest.raises(ValueError, match=r"positions: decoder_pos_embed"):
            load_autoencoder_weights(autoencoder(), state)


def test_the_summary_tells_what_was_left_and_why_in_a_few_lines() -> None:
    state = image_weights() | {"decoder_pos_embed": np.zeros((1, 197, 8)), "mask_token": np.zeros((1, 1, 8))}
    summary = load_classifier_weights(classifier(), state, "blocks").summary()
    assert summary.splitlines() == [
        "27 tensors loaded, 7 skipped on purpose",
        "  2 skipped, a classifier has no decoder: decoder_pos_embed, mask_token",
        "  2 skipped, the classification head is the classifier's own: head.bias, head.weight",
        "  2 skipped, it embeds patches of an image, not of an ECG: patch_embed.proj.bias, patch_embed.proj.weight",
        "  1 skipped, positions on an image's grid, not on leads and time: pos_embed",
        "  4 weights of the model left as they were: "
        "encoder/patch_embedding/kernel, encoder/patch_embedding/bias, head/kernel and 1 more",
    ]
    assert "CC BY-NC 4.0" in LICENCE_NOTE


@pytest.fixture(scope="module")
def large() -> MaskedAutoencoder:
    return autoencoder(ARCHITECTURES["large"])


@pytest.fixture(scope="module")
def large_tensors(large: MaskedAutoencoder) -> dict[str, np.ndarray]:
    """Random float16 values by the published names, ViT-Large."""
    return {
        name: value.astype("float16")
        if "pos_embed" in name
        else GENERATOR.random(value.shape, "float32").astype("float16")
        for name, value in state_dict(large).items()
    }


@pytest.mark.slow
def test_vit_large_has_the_published_number_of_weights(large: MaskedAutoencoder) -> None:
    assert (large.encoder.count_params(), large.decoder.count_params()) == (302_569_472, 25_873_658)


@pytest.mark.slow
def test_vit_large_with_a_missing_an_extra_and_a_misshapen_tensor_is_refused(
    tmp_path: Path, large: MaskedAutoencoder, large_tensors: dict[str, np.ndarray]
) -> None:
    tensors = large_tensors | {
        "blocks.24.norm1.weight": np.zeros(1024, "float16"),
        "blocks.7.mlp.fc1.weight": np.zeros((1024, 4096), "float16"),
    }
    del tensors["blocks.23.attn.qkv.bias"]
    save_file(tensors, tmp_path / "weights.safetensors")
    before = np.array(convert_to_numpy(large.encoder.class_token.token))
    with pytest.raises(ValueError, match=r"Expected the weights") as refusal:
        load_autoencoder_weights(large, read_state_dict(tmp_path / "weights.safetensors"))
    assert str(refusal.value) == (
        "Expected the weights of this model. Received 1 missing, 1 unexpected and 1 misshapen tensors:\n"
        "  missing: blocks.23.attn.qkv.bias, expected (3072,)\n"
        "  unexpected: blocks.24.norm1.weight, received (1024,)\n"
        "  misshapen: blocks.7.mlp.fc1.weight, expected (4096, 1024), received (1024, 4096)"
    )
    assert np.array_equal(convert_to_numpy(large.encoder.class_token.token), before)
    (tmp_path / "weights.safetensors").unlink()  # pytest keeps the folders of its last runs


@pytest.mark.slow
def test_vit_large_loads(tmp_path: Path, large: MaskedAutoencoder, large_tensors: dict[str, np.ndarray]) -> None:
    save_file(large_tensors, tmp_path / "weights.safetensors")
    accounting = load_autoencoder_weights(large, read_state_dict(tmp_path / "weights.safetensors"))
    (tmp_path / "weights.safetensors").unlink()
    assert len(accounting.loaded) == 24 * 12 + 8 * 12 + 12
    assert accounting.untouched == ()
    last = large.encoder.blocks[23].mlp_1.kernel
    assert np.array_equal(convert_to_numpy(last), large_tensors["blocks.23.mlp.fc1.weight"].T)
    assert np.array_equal(convert_to_numpy(large.decoder.prediction.bias), large_tensors["decoder_pred.bias"])
