"""A run on real recordings, mirrored over two devices in bfloat16, and what is served of it on every path."""

import csv
import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from sklearn.metrics import roc_auc_score

from keras_ecg_mae import stages
from keras_ecg_mae.config import Cohort, Config, Export, Finetuning, Model, Pretraining, Training
from keras_ecg_mae.dataset import Manifest, evaluation_batches, prepare, read_manifest
from keras_ecg_mae.errors import RunError
from keras_ecg_mae.runs.folder import read_done
from keras_ecg_mae.serving.client import ServedModel
from keras_ecg_mae.serving.exported_model import Answer, ExportedModel
from keras_ecg_mae.serving.gate import incumbent_version
from keras_ecg_mae.serving.predict import RecordingLoader, predict_recordings
from keras_ecg_mae.serving.versions import versions
from keras_ecg_mae.training.finetune import load_autoencoder

pytestmark = pytest.mark.slow

RUN = """
import tensorflow as tf
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
from dataclasses import replace
from keras_ecg_mae.config import *
from keras_ecg_mae.dataset import read_manifest
from keras_ecg_mae.models.build import ARCHITECTURES, Architecture, Transformer
from keras_ecg_mae.stages import begin_run, run_stage
ARCHITECTURES["tiny"] = Architecture(Transformer(32, 2, 2), Transformer(16, 1, 2))  # tinier still
config = {config!r}
manifest = read_manifest(config.training.dataset)
begin_run(config, manifest)
for stage in config.training.stages:
    run_stage(stage, config, manifest)
run_stage("export", replace(config, export=replace(config.export, exported="autoencoder", name="mae")), manifest)
"""

# Enough of each kind: 500 Hz and 1000 Hz, ten seconds and two minutes, with patient ids and without.
RECORDINGS = {"ludb": 60, "ptbxl": 20, "cpsc2018": 8, "ptb": 5, "chapman": 12}


@dataclass(frozen=True)
class Exported:
    """A run that was exported.

    Attributes:
        config: its settings. manifest: its dataset. files: path by record id. tested: probability by record id, as
        evaluation found it, of the splits validation and test.
    """

    config: Config
    manifest: Manifest
    files: dict[str, str]
    tested: dict[str, float]

    @property
    def version(self) -> Path:
        return Path(self.config.export.saved_models) / "rhythm" / "1"


@pytest.fixture(scope="module")
def run(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    folder = tmp_path_factory.mktemp("real")
    with (shared / "data" / "records.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    chosen = [
        row for name, count in RECORDINGS.items() for row in [row for row in rows if row["institution"] == name][:count]
    ]
    with (folder / "table.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(chosen)
    manifest = prepare(
        Cohort(
            recordings=str(shared / "data"),
            labels=str(folder / "table.csv"),
            output=str(folder / "dataset"),
            label_column="abnormal_rhythm",
            external_institutions=("chapman",),
            workers=1,
        )
    )
    config = Config(
        model=Model(size="tiny"),
        training=Training(
            dataset=manifest.folder,
            run=str(folder / "run"),
            strategy="mirrored",
            precision="mixed_bfloat16",
        ),
        pretraining=Pretraining(epochs=1, batch_size=16, warmup_epochs=0, validation_epochs=1),
        finetuning=Finetuning(epochs=1, batch_size=16, learning_rates=(1e-3,)),
        export=Export(
            saved_models=str(folder / "saved_models"),
            name="rhythm",
            export_despite_gate=True,
            export_batch_sizes=(1, 4),
        ),
    )
    done = subprocess.run(
        [sys.executable, "-c", RUN.format(config=config)], check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:]
    with (folder / "run" / "evaluation" / "predictions.csv").open(newline="") as file:
        tested = {row["record_id"]: float(row["probability"]) for row in csv.DictReader(file)}
    files = {row["record_id"]: str(shared / "data" / row["path"]) for row in rows}
    return Exported(config, manifest, files, tested)


def test_files_records_and_examples_are_served_as_they_were_evaluated(
    run: Exported, ask_c_api: Callable[..., dict[str, np.ndarray]], start_server: Callable[..., Any]
) -> None:
    names = list(run.tested)
    expected = np.array([run.tested[name] for name in names])
    assert len({name.partition("-")[0] for name in names}) >= 4
    assert np.std(expected) > 1e-4
    model = ExportedModel(run.version)

    loader = RecordingLoader(long_recordings=model.long_recordings, max_flat_leads=model.max_flat_leads)
    server = start_server(run.version, "rhythm")
    for answers in (model, ServedModel(server.settings("grpc")), ServedModel(server.settings("rest"))):
        batches = predict_recordings(answers, loader.recordings(run.files[name] for name in names))
        from_files = [prediction for batch in batches for prediction in batch]
        assert [prediction.error for prediction in from_files] == [None] * len(names)
        probabilities = np.array([prediction.probability for prediction in from_files], np.float64)
        assert np.allclose(probabilities, expected, rtol=0, atol=1e-5)
        assert [prediction.positive for prediction in from_files] == [p >= model.threshold for p in run.tested.values()]

    shards = [run.manifest.shard_path(s) for s in run.manifest.shards if s.split in ("validation", "test")]
    serialized = [record.numpy() for record in tf.data.TFRecordDataset(shards)]
    signature = tf.saved_model.load(str(run.version)).signatures["serve_examples"]
    from_examples = signature(examples=tf.constant(serialized))["abnormal_rhythm_probability"].numpy()
    batch = next(iter(evaluation_batches(run.manifest, ["validation", "test"], batch_size=1000, labelled=False)))
    records = [name.decode() for name in batch["record_id"].numpy()]
    assert sorted(records) == sorted(names)
    served = dict(zip(records, from_examples, strict=True))
    assert np.allclose([served[name] for name in names], expected, rtol=0, atol=1e-5)

    alone = ask_c_api(run.version, batch["ecg"].numpy())
    served = dict(zip(records, alone["abnormal_rhythm_probability"], strict=True))
    assert np.allclose([served[name] for name in names], expected, rtol=0, atol=1e-5)
    assert alone["input_ok"].all()


def test_the_exported_autoencoder_is_the_runs(run: Exported) -> None:
    version = Path(run.config.export.saved_models) / "mae" / "1"
    autoencoder = load_autoencoder(Path(run.config.training.run) / "pretrain" / "autoencoder.keras")
    batch = next(iter(evaluation_batches(run.manifest, ["test"], batch_size=6, labelled=False, mask_noise_seed=0)))
    expected, mask = tf.function(autoencoder.reconstruct)(batch["ecg"], batch["mask_noise"])
    answer = tf.saved_model.load(str(version)).signatures["reconstruct"](
        ecg=batch["ecg"], mask_noise=batch["mask_noise"]
    )
    assert np.array_equal(answer["mask"], mask)
    assert np.allclose(answer["reconstruction"], expected, rtol=1e-5, atol=1e-5)
    described = json.loads((version / "assets" / "model.json").read_text())
    assert described["validation"]["validation_error"] > 0


def test_the_card_tells_of_this_run(run: Exported, tmp_path: Path) -> None:
    text = (run.version / "assets" / "model_card.md").read_text()
    assert "the probability of `abnormal_rhythm`" in text
    assert "LVSD" not in text
    assert "| chapman | external | " in text
    assert f"| chapman | test | {run.manifest.count('test', institution='chapman')} |" in text
    assert "| precision | mixed_bfloat16 |" in text
    assert "| size | tiny |" in text
    # The command `export` alone does not repeat what the run was trained with; a version that is gone is made anew.
    config, manifest = again(run, tmp_path)
    config = replace(config, model=Model(), training=Training(dataset=manifest.folder, run=config.training.run))
    done = stages.run_stage("export", config, manifest)
    settings = [
        json.loads((folder / "assets" / "model.json").read_text())["settings"]
        for folder in (run.version, Path(done["saved_model"]))
    ]
    assert settings[0] == settings[1]
    subprocess.run(["rm", "-r", done["saved_model"]], check=True)
    assert stages.run_stage("export", config, manifest) == done
    assert (Path(done["saved_model"]) / "saved_model.pb").exists()


def again(run: Exported, tmp_path: Path, **export: Any) -> tuple[Config, Manifest]:
    """The same finished run, whose next export goes where `export` says."""
    folder = tmp_path / "run"
    if not folder.exists():
        subprocess.run(["cp", "-r", run.config.training.run, folder], check=True)
        subprocess.run(["rm", "-r", folder / "export", folder / "export_autoencoder"], check=True)
    settings = replace(run.config.export, **{"saved_models": str(tmp_path / "saved_models"), **export})
    return replace(run.config, training=replace(run.config.training, run=str(folder)), export=settings), run.manifest


def test_the_gate_refuses_until_it_is_told_otherwise(run: Exported, tmp_path: Path) -> None:
    strict = {"export_minimum_auroc": 0.999, "export_despite_gate": False}
    config, manifest = again(run, tmp_path, **strict)
    with pytest.raises(
        RunError,
        match=r"rhythm: Expected a classifier to serve. Received one that the gate refuses: Expected the AUROC's "
        r"interval of all internal to begin at 0.999 or above.*--export_despite_gate exports it all the same.",
    ):
        stages.run_stage("export", config, manifest)
    assert versions(tmp_path / "saved_models" / "rhythm") == []
    config, _ = again(run, tmp_path, **{**strict, "export_despite_gate": True})
    done = stages.run_stage("export", config, manifest)
    card = (Path(done["saved_model"]) / "assets" / "model_card.md").read_text()
    assert "## Exported although it was to be refused\n\n* Expected the AUROC's interval of all internal" in card


def test_a_bfloat16_export_is_described_by_what_it_answers(run: Exported, tmp_path: Path) -> None:
    config, manifest = again(run, tmp_path, export_precision="mixed_bfloat16")
    done = stages.run_stage("export", config, manifest)
    version = Path(done["saved_model"])
    model, exact = ExportedModel(version), ExportedModel(run.version)
    assert (model.label, model.threshold) == (exact.label, exact.threshold)

    batch = next(iter(evaluation_batches(run.manifest, ["test"], batch_size=1000, labelled=True)))
    served, in_float32 = (each.classify(batch["ecg"].numpy()).probability for each in (model, exact))
    assert 0 < np.abs(served - in_float32).max() < 0.05
    described = json.loads((version / "assets" / "model.json").read_text())
    assert described["precision"] == "bfloat16"
    in_full = json.loads((run.version / "assets" / "model.json").read_text())["weights"]
    assert described["weights"]["count"] == in_full["count"]
    assert described["weights"]["sha256"] != in_full["sha256"]  # it holds rounded ones
    assert "| computes in | bfloat16 |" in (version / "assets" / "model_card.md").read_text()
    sizes = [sum(file.stat().st_size for file in (each / "variables").iterdir()) for each in (version, run.version)]
    assert sizes[0] < 0.6 * sizes[1]
    external = batch["institution"].numpy() == b"chapman"
    [group] = [group for group in described["evaluation"] if group["name"] == "chapman"]
    positive = batch["label"].numpy()[external] == 1
    assert group["operating_point"]["sensitivity"]["count"] == np.sum(served[external][positive] >= model.threshold)
    if group["auroc"]["value"] is not None:
        assert group["auroc"]["value"] == pytest.approx(roc_auc_score(positive, served[external]))


def test_no_worse_version_follows(run: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saved_models = tmp_path / "saved_models" / "rhythm"
    saved_models.mkdir(parents=True)
    subprocess.run(["cp", "-r", run.version, saved_models / "1"], check=True)
    lenient = {"export_minimum_auroc": 0.0, "export_despite_gate": False}
    config, manifest = again(run, tmp_path, **lenient)

    # The version before says of itself that it was perfect on these ECGs, and was not refused.
    path = saved_models / "1" / "assets" / "model.json"
    described = {**json.loads(path.read_text()), "refused": []}
    ours = [group["auroc"]["value"] for group in described["evaluation"]]
    for group in described["evaluation"]:
        group["auroc"].update(value=1.0, low=1.0, high=1.0)
    path.write_text(json.dumps(described))
    with pytest.raises(RunError, match=r"AUROC of all external to reach 1.000 less 0.01.*--export_auroc_tolerance"):
        stages.run_stage("export", config, manifest)

    # It was tested on others: what it says counts for nothing, and evaluated on these it is our equal.
    path.write_text(json.dumps({**described, "dataset": "others"}))
    asked: list[int] = []
    classify = ExportedModel.classify

    def counted(model: ExportedModel, ecg_mv: np.ndarray) -> Any:
        asked.append(len(ecg_mv))
        return classify(model, ecg_mv)

    monkeypatch.setattr(ExportedModel, "classify", counted)
    done = stages.run_stage("export", config, manifest)
    assert done["saved_model"] == str(saved_models / "2")
    assert sum(asked) == len(run.tested)
    kept = json.loads((saved_models / "2" / "assets" / "model.json").read_text())
    assert [group["auroc"]["value"] for group in kept["evaluation"]] == ours
    assert kept["refused"] == []

    # One that was exported although it was refused is no measure.
    subprocess.run(["cp", "-r", saved_models / "2", saved_models / "3"], check=True)
    path = saved_models / "3" / "assets" / "model.json"
    path.write_text(json.dumps({**kept, "evaluation": [], "refused": ["It is worse."]}))
    incumbent = incumbent_version(saved_models)
    assert incumbent is not None
    assert incumbent[0] == saved_models / "2"

    # One that refuses ECGs of this dataset cannot be compared.
    path.write_text(json.dumps({**kept, "dataset": "others"}))
    monkeypatch.setattr(ExportedModel, "classify", lambda model, ecg: Answer(*np.full((3, len(ecg)), False)))
    (tmp_path / "compared").mkdir()
    config, _ = again(run, tmp_path / "compared", **lenient, saved_models=str(tmp_path / "saved_models"))
    with pytest.raises(RunError, match=r"Expected .*3, which must not be better, to answer for every test ECG"):
        stages.run_stage("export", config, manifest)
    monkeypatch.undo()

    config, _ = again(run, tmp_path, **lenient, exported="autoencoder")
    with pytest.raises(RunError, match=r"Expected a version of the same model, an autoencoder. Received a abnormal_"):
        stages.run_stage("export", config, manifest)


def test_what_the_gate_asks_decides_nothing_about_a_finished_export(run: Exported) -> None:
    manifest = read_manifest(run.manifest.folder)
    config = replace(run.config, export=replace(run.config.export, export_despite_gate=False, export_minimum_auroc=0.9))
    done = stages.run_stage("export", config, manifest)
    assert done == read_done(Path(run.config.training.run) / "export")
    config = replace(run.config, export=replace(run.config.export, export_batch_sizes=(1,)))
    with pytest.raises(RunError, match=r"export_batch_sizes: \[1, 4\] then, \[1\] now"):
        stages.run_stage("export", config, manifest)
