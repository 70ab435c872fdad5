"""The SavedModel: what TF Serving and `predict` load."""

import json
import subprocess
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_ecg_mae.dataset.example import Metadata, encode_units, to_units
from keras_ecg_mae.errors import RunError
from keras_ecg_mae.models.autoencoder import MaskedAutoencoder
from keras_ecg_mae.models.build import Transformer, build_classifier
from keras_ecg_mae.models.classifier import Classifier
from keras_ecg_mae.models.cnn import CnnClassifier
from keras_ecg_mae.serving.exported_model import ExportedModel
from keras_ecg_mae.serving.model_json import read_description, weights_sha256
from keras_ecg_mae.serving.saved_model import export_classifier
from keras_ecg_mae.serving.versions import versions

Make = Callable[..., Any]
NOBODY = Metadata("record", "", "", None, None, None, "")


@lru_cache
def load(version: Path) -> Any:
    return tf.saved_model.load(str(version))


def serve(version: Path, signature: str, **inputs: Any) -> dict[str, np.ndarray]:
    outputs = load(version).signatures[signature](**{name: tf.constant(value) for name, value in inputs.items()})
    return {name: value.numpy() for name, value in outputs.items()}


def test_signatures_are_named_typed_and_open_in_the_batch(exported: Path) -> None:
    loaded = load(exported)
    assert sorted(loaded.signatures) == ["encode", "serve_examples", "serving_default"]
    ecg, examples = tf.TensorSpec((None, 12, 5000), tf.float32), tf.TensorSpec((None,), tf.string)
    flag, number = tf.TensorSpec((None,), tf.bool), tf.TensorSpec((None,), tf.float32)
    answer = {"lvsd_probability": number, "lvsd_positive": flag, "input_ok": flag}
    expected = {
        "serving_default": ({"ecg": ecg}, answer),
        "serve_examples": ({"examples": examples}, answer),
        "encode": ({"ecg": ecg}, {"features": tf.TensorSpec((None, 32), tf.float32), "input_ok": flag}),
    }
    described = json.loads((exported / "assets" / "model.json").read_text())["signatures"]
    for name, (inputs, outputs) in expected.items():
        signature = loaded.signatures[name]
        for place, specs, received in (
            ("inputs", inputs, signature.structured_input_signature[1]),
            ("outputs", outputs, signature.structured_outputs),
        ):
            shown = {key: (spec.shape.as_list(), spec.dtype) for key, spec in received.items()}
            assert shown == {key: (spec.shape.as_list(), spec.dtype) for key, spec in specs.items()}
            told = {key: (item["shape"], tf.as_dtype(item["dtype"])) for key, item in described[name][place].items()}
            assert told == shown


def test_every_signature_answers_what_the_model_does(exported: Path, classifier: Classifier, ecgs: np.ndarray) -> None:
    probability = np.asarray(classifier.probability(ecgs))
    assert np.std(probability) > 1e-3
    features = np.asarray(classifier.features(ecgs))
    examples = [encode_units(to_units("record", ecg), NOBODY) for ecg in ecgs]
    for batch in (1, 7, 16):
        answer = serve(exported, "serving_default", ecg=ecgs[:batch])
        assert np.allclose(answer["lvsd_probability"], probability[:batch], rtol=0, atol=1e-5)
        assert np.array_equal(answer["lvsd_positive"], probability[:batch] >= 0.4)
        assert answer["input_ok"].all()
        encoded = serve(exported, "encode", ecg=ecgs[:batch])
        assert np.allclose(encoded["features"], features[:batch], rtol=1e-5, atol=1e-5)
        from_examples = serve(exported, "serve_examples", examples=examples[:batch])
        assert all(np.array_equal(from_examples[name], answer[name]) for name in answer)


def test_a_client_need_not_round_as_a_dataset_does(exported: Path, ecgs: np.ndarray) -> None:
    rounded = serve(exported, "serving_default", ecg=ecgs)
    noise = np.random.default_rng(0).uniform(-0.0004, 0.0004, ecgs.shape).astype(np.float32)
    assert np.array_equal(
        serve(exported, "serving_default", ecg=ecgs + noise)["lvsd_probability"], rounded["lvsd_probability"]
    )


def test_the_c_api_alone_answers_the_same(
    exported: Path, classifier: Classifier, ecgs: np.ndarray, ask_c_api: Callable[..., dict[str, np.ndarray]]
) -> None:
    broken = ecgs.copy()
    broken[1] = np.nan
    answer = ask_c_api(exported, broken)
    expected = np.asarray(classifier.probability(ecgs))
    assert np.allclose(np.delete(answer["lvsd_probability"], 1), np.delete(expected, 1), rtol=0, atol=1e-5)
    assert np.isnan(answer["lvsd_probability"][1])
    assert answer["input_ok"].tolist() == [index != 1 for index in range(16)]
    features = ask_c_api(exported, ecgs[:3], "encode")["features"]
    assert np.allclose(features, np.asarray(classifier.features(ecgs[:3])), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("damage", ["nan", "infinity", "zero", "flat lead", "volts", "microvolts"])
def test_what_cannot_be_an_ecg_has_no_probability(exported: Path, ecgs: np.ndarray, damage: str) -> None:
    ecg = ecgs[:3].copy()
    match damage:
        case "nan":
            ecg[1, 4, 77] = np.nan
        case "infinity":
            ecg[1, 4, 77] = -np.inf
        case "zero":
            ecg[1] = 0
        case "flat lead":
            ecg[1, 4] = 0.3
        case "volts":
            ecg[1] /= 1000
        case "microvolts":
            ecg[1] *= 1000
    whole = serve(exported, "serving_default", ecg=ecgs[:3])
    answer = serve(exported, "serving_default", ecg=ecg)
    assert answer["input_ok"].tolist() == [True, False, True]
    assert not answer["lvsd_positive"][1]
    assert np.array_equal(np.isnan(answer["lvsd_probability"]), [False, True, False])
    assert np.allclose(answer["lvsd_probability"][[0, 2]], whole["lvsd_probability"][[0, 2]], rtol=0, atol=1e-6)
    features = serve(exported, "encode", ecg=ecg)["features"]
    assert np.array_equal(np.isnan(features).all(axis=1), [False, True, False])
    assert np.array_equal(np.isnan(features).any(axis=1), [False, True, False])


def test_an_example_that_is_none_is_refused_alone(exported: Path, ecgs: np.ndarray) -> None:
    def example(content: bytes) -> bytes:
        feature = tf.train.Feature(bytes_list=tf.train.BytesList(value=[content]))
        return tf.train.Example(features=tf.train.Features(feature={"ecg": feature})).SerializeToString()

    half = ecgs[0].ravel()[:30_000].astype("<i2").tobytes()
    whole = example((1000 * ecgs[0]).round().astype("<i2").tobytes())
    answer = serve(exported, "serve_examples", examples=[example(half), example(half), whole, example(b"x"), b""])
    assert answer["input_ok"].tolist() == [False, False, True, False, False]
    assert np.isnan(answer["lvsd_probability"]).tolist() == [True, True, False, True, True]
    expected = serve(exported, "serving_default", ecg=ecgs[:1])
    assert answer["lvsd_probability"][2] == pytest.approx(expected["lvsd_probability"][0], abs=1e-6)
    with pytest.raises(tf.errors.InvalidArgumentError):  # what is no tf.Example at all fails its request
        serve(exported, "serve_examples", examples=[whole, b"nonsense"])


def test_label_threshold_and_flat_leads_are_the_runs(
    classifier: Classifier, ecgs: np.ndarray, tmp_path: Path, decision: Make, provenance: Make
) -> None:
    probability = float(tf.function(classifier.probability)(ecgs[:1])[0])
    # Rounded to float32 it would be the probability itself, and evaluation would not have called that positive.
    threshold = float(np.nextafter(probability, 1))
    assert np.float32(threshold) == np.float32(probability)
    version = export_classifier(
        classifier,
        tmp_path,
        decision=decision(label="abnormal_rhythm", threshold=threshold),
        provenance=provenance("abnormal_rhythm", max_flat_leads=2, long_recordings="middle"),
        batch_sizes=(1,),
    )
    model = ExportedModel(version)
    assert (model.label, model.output) == ("abnormal_rhythm", "abnormal_rhythm_probability")
    assert (model.max_flat_leads, model.long_recordings, model.threshold) == (2, "middle", threshold)
    outputs = load(version).signatures["serving_default"].structured_outputs
    assert set(outputs) == {"abnormal_rhythm_probability", "abnormal_rhythm_positive", "input_ok"}
    answer = model.classify(ecgs[:1])
    assert answer.probability[0] == np.float32(probability)
    assert answer.positive.tolist() == [False]
    flat = ecgs[:2].copy()
    flat[0, :2], flat[1, :3] = 0, 0
    assert model.classify(flat).input_ok.tolist() == [True, False]


@pytest.mark.parametrize("kind", ["bfloat16", "cnn"])
def test_other_classifiers_answer_in_float32_what_they_do_here(
    kind: str, tmp_path: Path, ecgs: np.ndarray, decision: Make, provenance: Make
) -> None:
    keras.utils.set_random_seed(5)
    model = (
        CnnClassifier()
        if kind == "cnn"
        else build_classifier(
            Transformer(32, 1, 2), normalization="lead", pooling="class_token", dtype="mixed_bfloat16"
        )
    )
    for weight in model.head.trainable_weights:
        weight.assign(keras.random.normal(weight.shape, stddev=0.2))
    version = export_classifier(
        model, tmp_path, decision=decision(), provenance=provenance(), batch_sizes=(1,), ecg_mv=ecgs[:4]
    )
    answer = serve(version, "serving_default", ecg=ecgs)
    assert answer["lvsd_probability"].dtype == np.float32
    assert np.allclose(answer["lvsd_probability"], tf.function(model.probability)(ecgs), rtol=0, atol=1e-5)
    features = serve(version, "encode", ecg=ecgs)["features"]
    assert features.shape == (16, 128 if kind == "cnn" else 32)
    assert features.dtype == np.float32


def test_an_autoencoder_encodes_and_reconstructs(
    exported_autoencoder: Path, autoencoder: MaskedAutoencoder, ecgs: np.ndarray
) -> None:
    loaded = load(exported_autoencoder)
    assert sorted(loaded.signatures) == ["encode", "reconstruct", "serve_examples", "serving_default"]
    noise = np.random.default_rng(1).uniform(size=(3, 240)).astype(np.float32)
    ecg = ecgs[:3].copy()
    ecg[2] = 0
    answer = serve(exported_autoencoder, "reconstruct", ecg=ecg, mask_noise=noise)
    expected, mask = autoencoder.reconstruct(ecgs[:2], noise[:2])
    assert answer["input_ok"].tolist() == [True, True, False]
    assert np.array_equal(answer["mask"][:2], mask)
    assert np.array_equal(answer["mask"][0] == 1, noise[0] > np.sort(noise[0])[59])  # the largest are hidden
    assert np.allclose(answer["reconstruction"][:2], expected, rtol=1e-5, atol=1e-5)
    visible = np.repeat(answer["mask"][0].reshape(12, 20) == 0, 250, axis=1)
    assert np.allclose(answer["reconstruction"][0][visible], ecg[0][visible], rtol=0, atol=1e-4)
    assert np.isnan(answer["reconstruction"][2]).all()
    features = serve(exported_autoencoder, "serving_default", ecg=ecgs)["features"]
    assert features.shape == (16, 32)
    examples = [encode_units(to_units("record", one), NOBODY) for one in ecgs]
    for signature, inputs in (("encode", {"ecg": ecgs}), ("serve_examples", {"examples": examples})):
        assert np.array_equal(serve(exported_autoencoder, signature, **inputs)["features"], features)
    with pytest.raises(RunError, match=r"mae/1: Expected the export of a classifier. Received an autoencoder's."):
        ExportedModel(exported_autoencoder)


def test_nothing_asks_for_xla(exported: Path, exported_autoencoder: Path) -> None:
    for version in (exported, exported_autoencoder):
        assert b"_XlaMustCompile" not in (version / "saved_model.pb").read_bytes()


def test_weights_are_kept_once(exported: Path, classifier: Classifier) -> None:
    size = (exported / "variables" / "variables.data-00000-of-00001").stat().st_size
    assert 4 * classifier.count_params() < size < 1.2 * 4 * classifier.count_params()


def test_assets_tell_what_is_served(exported: Path, classifier: Classifier, decision: Make) -> None:
    described = json.loads((exported / "assets" / "model.json").read_text())
    assert described["signal"]["unit"] == "mV"
    assert described["signal"]["leads"][3:6] == ["aVR", "aVL", "aVF"]
    assert described["normalization"] == "record"
    assert (described["threshold"], described["threshold_rule"]) == (0.4, "largest sum (Youden)")
    assert described["weights"] == {"count": classifier.count_params(), "sha256": weights_sha256(classifier)}
    assert described["evaluation"][0]["auroc"]["low"] == 0.85
    assert described["counts"][0] == {
        "institution": "a",
        "split": "train",
        "patients": 1234,
        "positive": 300,
        "negative": 900,
        "unlabelled": 50,
    }
    read = read_description(exported)
    assert read.decision == decision()
    subprocess.run(["sha256sum", "--check", "--strict", "assets/SHA256SUMS"], cwd=exported, check=True)
    listed = {line.split("  ")[1] for line in (exported / "assets" / "SHA256SUMS").read_text().splitlines()}
    files = {str(path.relative_to(exported)) for path in exported.rglob("*") if path.is_file()}
    assert files - listed == {"assets/SHA256SUMS"}


def test_the_checksum_is_of_the_weights(classifier: Classifier) -> None:
    before = weights_sha256(classifier)
    bias = classifier.head.bias
    bias.assign_add([1e-3])
    assert weights_sha256(classifier) != before
    bias.assign_sub([1e-3])


def test_an_export_that_answers_otherwise_is_not_published(
    classifier: Classifier, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, decision: Make, provenance: Make
) -> None:
    changed = keras.models.clone_model(classifier)
    changed.set_weights(classifier.get_weights())
    archive = type(keras.export.ExportArchive())  # since Keras 3.13 a backend's own class
    write_out = archive.write_out

    def changes_meanwhile(*arguments: Any, **options: Any) -> Any:
        changed.head.bias.assign_add([1e-3])
        return write_out(*arguments, **options)

    monkeypatch.setattr(archive, "write_out", changes_meanwhile)
    with pytest.raises(
        RunError, match=r"Expected the export's lvsd_probability of serving_default to be the model's.*Received"
    ):
        export_classifier(changed, tmp_path, decision=decision(), provenance=provenance())
    assert versions(tmp_path) == []
    assert list(tmp_path.iterdir()) == []


def test_nothing_to_compare_on_is_refused(
    classifier: Classifier, tmp_path: Path, decision: Make, provenance: Make
) -> None:
    with pytest.raises(RunError, match=r"Expected to compare on recordings that the export accepts. Received 2"):
        export_classifier(
            classifier,
            tmp_path,
            decision=decision(),
            provenance=provenance(),
            ecg_mv=np.zeros((2, 12, 5000), np.float32),
        )


def test_no_export_and_another_signal_are_refused(exported: Path, tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"none: Expected an export.*Received none"):
        ExportedModel(tmp_path / "none")
    copy = tmp_path / "1"
    (copy / "assets").mkdir(parents=True)
    (copy / "saved_model.pb").write_bytes(b"")
    description = json.loads((exported / "assets" / "model.json").read_text())
    for change, message in (
        ({"signal": {**description["signal"], "sampling_rate_hz": 400}}, r"Expected the signal .*500.*Received .*400"),
        (
            {"threshold": "much", "label": 3, "model": "forest"},
            "Expected the signal|Expected the export of a classifier",
        ),
    ):
        (copy / "assets" / "model.json").write_text(json.dumps({**description, **change}))
        with pytest.raises(RunError, match=message):
            ExportedModel(tmp_path)
    (copy / "assets" / "model.json").write_text("{}")
    with pytest.raises(RunError, match=r"model.json: Expected the description of an export. Received"):
        ExportedModel(tmp_path)
