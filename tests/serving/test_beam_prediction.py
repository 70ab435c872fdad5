"""Predictions by Apache Beam's DirectRunner, beside those of one process."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from keras_ecg_mae.config import Cohort, Config, Prediction, Training
from keras_ecg_mae.dataset import Manifest
from keras_ecg_mae.errors import ConfigError
from keras_ecg_mae.predict import main
from keras_ecg_mae.serving.predict import Predictor
from keras_ecg_mae.spec import LEADS

BEAM = ["--direct_num_workers=1"]


def lines(files: list[Path]) -> list[dict[str, object]]:
    found = [json.loads(line) for file in files for line in file.read_text().splitlines()]
    return sorted(found, key=lambda line: str(line["path"]))


@pytest.mark.slow
@pytest.mark.parametrize("source", ["files", "dataset"])
def test_the_same_predictions_as_in_one_process(
    source: str, exported: Path, simulated: Manifest, ecgs: np.ndarray, tmp_path: Path
) -> None:
    pytest.importorskip("apache_beam")
    config = Config(prediction=Prediction(model=str(exported), predict_batch_size=4, format="json"))
    if source == "dataset":
        config = replace(config, training=Training(dataset=simulated.folder))
    else:
        sidecar = {"sampling_rate_hz": 500, "unit": "mV", "leads": list(LEADS)}
        for number, ecg in enumerate(ecgs[:9]):
            np.save(tmp_path / f"{number}.npy", ecg)
        (tmp_path / "signal.json").write_text(json.dumps(sidecar))
        (tmp_path / "5.npy").write_bytes(b"nothing")
        (tmp_path / "list.txt").write_text("".join(f"{tmp_path}/{number}.npy\n" for number in range(9)) + "\n")
        config = replace(config, prediction=replace(config.prediction, files=str(tmp_path / "list.txt")))

    alone = tmp_path / "alone.jsonl"
    Predictor(config, []).write(str(alone))
    beam = replace(config.prediction, predictions=str(tmp_path / "beam"))
    assert main(replace(config, prediction=beam, cohort=Cohort(runner="DirectRunner")), BEAM) == 0
    expected, found = lines([alone]), lines(sorted(tmp_path.glob("beam-*.jsonl")))
    assert len(found) == (simulated.count() if source == "dataset" else 9)
    assert [line.pop("probability") for line in found] == pytest.approx(
        [line.pop("probability") for line in expected], abs=1e-5
    )
    assert found == expected


def test_a_pipeline_needs_a_list_or_a_dataset(exported: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = Config(
        prediction=Prediction(model=str(exported), predictions="x", format="json"), cohort=Cohort(runner="DirectRunner")
    )
    with pytest.raises(
        ConfigError, match=r"Expected --files=LIST or --dataset with --runner=DirectRunner. Received nei"
    ):
        main(config, [])
    monkeypatch.setitem(sys.modules, "apache_beam", None)
    with pytest.raises(ConfigError, match=r"pip install 'keras-ecg-mae\[beam\]'"):
        main(config, [])
