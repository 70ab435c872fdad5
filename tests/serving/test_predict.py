"""Predictions of many recordings: any source, in order, bad ones among them, interrupted and gone on with."""

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import wfdb

from keras_ecg_mae import spec
from keras_ecg_mae.config import Config, Prediction, Training
from keras_ecg_mae.dataset import Manifest
from keras_ecg_mae.errors import ConfigError, RunError
from keras_ecg_mae.runs.record import Dataset
from keras_ecg_mae.runs.training_data import TrainingData
from keras_ecg_mae.serving import predict as module
from keras_ecg_mae.serving.model_json import provenance_of
from keras_ecg_mae.serving.predict import Predictor, Written


def write_record(folder: Path, name: str, ecg_mv: np.ndarray) -> str:
    wfdb.wrsamp(
        name,
        fs=500,
        units=["mV"] * 12,
        sig_name=list(spec.LEADS),
        d_signal=np.rint(ecg_mv.T * 1000).astype(int),
        fmt=["16"] * 12,
        adc_gain=[1000.0] * 12,
        baseline=[0] * 12,
        write_dir=str(folder),
    )
    return str(folder / name)


@pytest.fixture
def paths(tmp_path: Path, ecgs: np.ndarray) -> list[str]:
    """Nine recordings, the sixth of which is none."""
    written = [write_record(tmp_path, f"r{number}", ecgs[number]) for number in range(9)]
    Path(written[5] + ".hea").write_text("nothing")
    return written


@pytest.fixture
def config(exported: Path) -> Config:
    return Config(prediction=Prediction(model=str(exported), predict_batch_size=2, format="json"))


def test_each_recording_has_its_own_answer_in_order(paths: list[str], config: Config, ecgs: np.ndarray) -> None:
    predictor = Predictor(config, paths)
    predictions = list(predictor.predictions())
    assert [prediction.path for prediction in predictions] == paths
    expected = predictor.model.classify(ecgs[:9])
    for number, prediction in enumerate(predictions):
        if number == 5:
            assert prediction.error is not None
            assert prediction.probability is None
        else:
            assert prediction.probability == pytest.approx(float(expected.probability[number]), abs=1e-5)
            assert prediction.positive == bool(expected.positive[number])


def test_an_interrupted_file_ends_as_one_that_was_not(
    paths: list[str], config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed = tmp_path / "list.txt"
    listed.write_text("".join(f"{path}\n" for path in paths))
    config = replace(config, prediction=replace(config.prediction, files=str(listed)))
    whole, parts = str(tmp_path / "whole.jsonl"), tmp_path / "parts.jsonl"
    assert Predictor(config, []).write(whole) == Written(now=9, recordings=9, unusable=1)

    class StoppedError(Exception):
        pass

    original, calls = module._predict_batch, []

    def stops(*arguments: object) -> object:
        calls.append(1)
        if len(calls) == 3:
            raise StoppedError
        return original(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(module, "_predict_batch", stops)
    with pytest.raises(StoppedError):
        Predictor(config, []).write(str(parts))
    assert len(parts.read_text().splitlines()) == 4
    with parts.open("a") as file:
        file.write('{"path": "half a li')  # as a killed process leaves it
    assert Predictor(config, []).write(str(parts)) == Written(now=5, recordings=9, unusable=1)
    assert parts.read_text() == Path(whole).read_text()
    assert Predictor(config, []).write(str(parts)) == Written(now=0, recordings=9, unusable=1)


def test_a_file_of_other_recordings_is_kept_and_named(paths: list[str], config: Config, tmp_path: Path) -> None:
    file = tmp_path / "predictions.jsonl"
    Predictor(config, paths[:3]).write(str(file))
    before = file.read_bytes()
    with pytest.raises(RunError, match=r"predictions.jsonl, line 3: Expected the path '.*r3'. Received '.*r2'"):
        Predictor(config, paths[1:]).write(str(file))
    assert file.read_bytes() == before


def test_a_name_that_is_no_utf_8_ends_nothing(paths: list[str], config: Config, tmp_path: Path) -> None:
    renamed = os.fsencode(tmp_path) + b"/caf\xe9"
    for end in (b".hea", b".dat"):
        content = Path(paths[0] + end.decode()).read_bytes().replace(b"r0", b"caf\xe9")
        with open(renamed + end, "wb") as file:
            file.write(content)
    (tmp_path / "list.txt").write_bytes(renamed + b".hea\n" + os.fsencode(paths[1]) + b"\n")
    config = replace(config, prediction=replace(config.prediction, files=str(tmp_path / "list.txt")))
    written = tmp_path / "predictions.jsonl"
    assert Predictor(config, []).write(str(written)).recordings == 2
    named = [os.fsencode(json.loads(line)["path"]) for line in written.read_text().splitlines()]
    assert named == [renamed + b".hea", os.fsencode(paths[1])]
    assert Predictor(config, []).write(str(written)).now == 0


def test_an_export_is_the_same_by_whatever_path(paths: list[str], config: Config, tmp_path: Path) -> None:
    written = tmp_path / "predictions.jsonl"
    Predictor(config, paths).write(str(written))
    roundabout = str(Path(config.prediction.model) / ".." / Path(config.prediction.model).name)
    other = replace(config, prediction=replace(config.prediction, model=roundabout))
    assert Predictor(other, paths).write(str(written)).now == 0


def test_a_dataset_is_predicted_whole(simulated: Manifest, exported: Path, tmp_path: Path) -> None:
    config = Config(
        training=Training(dataset=simulated.folder), prediction=Prediction(model=str(exported), format="json")
    )
    written = Predictor(config, []).write(str(tmp_path / "predictions.jsonl"))
    assert written == Written(now=simulated.count(), recordings=simulated.count(), unusable=0)
    lines = [json.loads(line) for line in (tmp_path / "predictions.jsonl").read_text().splitlines()]
    assert len({line["path"] for line in lines}) == simulated.count()
    assert {line["label"] for line in lines} == {"lvsd"}


@pytest.mark.parametrize(("einthoven_mv", "refused"), [(0.05, True), (100.0, False)])
def test_what_prepare_refused_is_not_predicted(
    einthoven_mv: float, refused: bool, paths: list[str], simulated: Manifest, exported: Path, tmp_path: Path
) -> None:
    """The dataset's manifest says what was refused, by which limits; so does the export; and predict goes by that."""
    settings = {**simulated.settings, "quality_reject": ["einthoven"], "quality_einthoven_mv": einthoven_mv}
    dataset = Dataset(simulated.folder, simulated.digest, simulated.count())
    trained = TrainingData("run", dataset, "lvsd", 40.0, "", {})
    provenance = provenance_of(trained, tmp_path, replace(simulated, settings=settings))
    version = shutil.copytree(exported, tmp_path / "1")
    described = json.loads((version / "assets" / "model.json").read_text()) | {"quality": provenance.quality}
    (version / "assets" / "model.json").write_text(json.dumps(described))
    predictions = Predictor(Config(prediction=Prediction(model=str(version))), paths[:2]).predictions()
    for prediction in predictions:  # their limb leads are in no relation to each other
        assert (prediction.probability is None) == refused
        assert ("--quality_reject. Received einthoven" in (prediction.error or "")) == refused


def test_recordings_come_from_files_or_a_dataset(config: Config) -> None:
    with pytest.raises(ConfigError, match="Received none of them"):
        Predictor(config, [])
