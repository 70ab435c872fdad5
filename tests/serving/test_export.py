"""The SavedModel: what TF Serving and `predict` load."""

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from keras_ecg_mae.errors import RunError
from keras_ecg_mae.models.build import ARCHITECTURES, build_classifier
from keras_ecg_mae.models.classifier import Classifier
from keras_ecg_mae.run_folder import write_whole
from keras_ecg_mae.serving import export as module
from keras_ecg_mae.serving.export import export_classifier, versions
from keras_ecg_mae.serving.prediction import ExportedModel

ONLY_TENSORFLOW = """
import sys
import numpy as np
import tensorflow as tf
serve = tf.saved_model.load(sys.argv[1]).signatures["serving_default"]
ecg = np.load(sys.argv[2])
answers = {}
for batch in (1, 7, 64):
    answer = serve(ecg=tf.constant(ecg[:batch]))
    answers[str(batch)] = answer["lvsd_probability"].numpy()
    assert list(answer) == ["lvsd_probability"], list(answer)
assert not [name for name in sys.modules if name.startswith("keras_ecg_mae")]
np.savez(sys.argv[3], **answers)
"""


@pytest.fixture(scope="module")
def classifier() -> Classifier:
    keras.utils.set_random_seed(3)
    model = build_classifier(ARCHITECTURES["tiny"].encoder, normalization="record", pooling="mean")
    for weight in model.head.trainable_weights:  # so that probabilities differ from each other
        weight.assign(keras.random.normal(weight.shape, stddev=0.2))
    return model


def export(classifier: Classifier, folder: Path, label_name: str = "lvsd") -> Path:
    return export_classifier(classifier, folder, label_name=label_name, threshold=0.4, provenance={"run": "runs/x"})


def test_tensorflow_alone_predicts_what_the_keras_model_does(classifier: Classifier, tmp_path: Path) -> None:
    version = export(classifier, tmp_path / "model")
    time = np.arange(5000) / 500
    ecg = np.stack([np.sin(2 * np.pi * (1 + record / 8) * time) for record in range(64)])
    ecg = np.repeat(ecg[:, None], 12, axis=1).astype("float32")
    np.save(tmp_path / "ecg.npy", ecg)
    subprocess.run(
        [sys.executable, "-c", ONLY_TENSORFLOW, version, tmp_path / "ecg.npy", tmp_path / "answers.npz"], check=True
    )
    answers = np.load(tmp_path / "answers.npz")
    assert np.std(answers["64"]) > 1e-3
    for batch in (1, 7, 64):
        expected = np.asarray(classifier.probability(ecg[:batch]))
        assert answers[str(batch)].dtype == np.float32
        assert np.allclose(answers[str(batch)], expected, atol=1e-5)


def test_versions_count_up_and_none_is_half(classifier: Classifier, tmp_path: Path) -> None:
    assert export(classifier, tmp_path).name == "1"
    assert export(classifier, tmp_path).name == "2"
    assert versions(tmp_path) == [1, 2]
    assert {path.name for path in tmp_path.iterdir()} == {"1", "2"}


def test_exports_at_once_get_a_version_each(
    classifier: Classifier, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    partials = [tmp_path / f".partial-{number}" for number in range(8)]
    for partial in partials:
        partial.mkdir()
        (partial / "saved_model.pb").write_text(partial.name)
    with ThreadPoolExecutor(8) as threads:
        taken = list(threads.map(lambda partial: module._rename_to_next_version(partial, tmp_path), partials))
    assert sorted(path.name for path in taken) == [str(number) for number in range(1, 9)]
    assert {(path / "saved_model.pb").read_text() for path in taken} == {partial.name for partial in partials}


def test_an_upload_ends_with_what_serving_needs_to_load_it(
    classifier: Classifier, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uploaded: list[str] = []

    def upload(path: Path, content: bytes) -> None:
        write_whole(path, content)
        uploaded.append(path.name)
        if len(uploaded) == 7:
            raise RunError("cut off")

    monkeypatch.setattr(module, "is_remote", lambda path: True)
    monkeypatch.setattr(module, "write_whole", upload)
    assert export(classifier, tmp_path) == tmp_path / "1"
    files = {path.name for path in tmp_path.rglob("*") if path.is_file()}
    assert sorted(uploaded) == sorted(files)
    assert (uploaded[0], uploaded[-1]) == ("variables.data-00000-of-00001", "saved_model.pb")
    with pytest.raises(RunError, match="cut off"):
        export(classifier, tmp_path)
    assert versions(tmp_path) == [1, 2]
    assert ExportedModel(tmp_path).folder == tmp_path / "1"


def test_the_output_is_called_after_the_label(classifier: Classifier, tmp_path: Path) -> None:
    model = ExportedModel(export(classifier, tmp_path, label_name="abnormal_rhythm"))
    assert model.output == "abnormal_rhythm_probability"
    assert model.threshold == 0.4


def test_an_export_that_predicts_otherwise_is_not_published(
    classifier: Classifier, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changed = keras.models.clone_model(classifier)
    changed.set_weights(classifier.get_weights())
    write_description = module._write_description

    def changes_meanwhile(*arguments: Any) -> None:
        write_description(*arguments)
        changed.head.bias.assign_add([1.0])

    monkeypatch.setattr(module, "_write_description", changes_meanwhile)
    with pytest.raises(RunError, match=r"Expected the export to predict as the model does.*Received a difference"):
        export(changed, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_no_export_and_another_signal_are_refused(classifier: Classifier, tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"none: Expected an export.*Received none"):
        ExportedModel(tmp_path / "none")
    version = export(classifier, tmp_path / "model")
    path = version / "assets" / "model.json"
    description = json.loads(path.read_text())
    description["signal"]["sampling_rate_hz"] = 400
    path.write_text(json.dumps(description))
    with pytest.raises(RunError, match=r"model.json: Expected the signal .*500.*Received .*400"):
        ExportedModel(version)
