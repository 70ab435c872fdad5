"""The commands end to end, as a user types them, on a simulated cohort."""

import csv
import json
import os
import re
import runpy
import shutil
import subprocess
import sys
import time
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from absl.flags import FLAGS

from keras_ecg_mae.dataset import Manifest
from keras_ecg_mae.evaluation.evaluate import read_results
from keras_ecg_mae.flags import define_flags
from keras_ecg_mae.runs.folder import run_lock

REPOSITORY = Path(__file__).resolve().parent.parent


def run(command: str, *arguments: object, folder: Path, status: int = 0) -> subprocess.CompletedProcess[str]:
    answer = subprocess.run(
        [sys.executable, "-m", f"keras_ecg_mae.{command}", *map(str, arguments)],
        check=False,
        capture_output=True,
        text=True,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
    )
    assert answer.returncode == status, answer.stderr[-3000:]
    return answer


TINY = [
    "--size=tiny",
    "--pretrain_epochs=2",
    "--pretrain_warmup_epochs=1",
    "--pretrain_batch_size=16",
    "--pretrain_validation_epochs=2",
    "--finetune_epochs=2",
    "--finetune_batch_size=16",
    "--finetune_learning_rates=1e-3,3e-4",
    "--name=test",
    "--export_despite_gate",
]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which simulate, prepare and train were run, each as its own process."""
    folder = tmp_path_factory.mktemp("finished")
    cohort = ("--recordings=recordings", "--labels=recordings/labels.csv")
    run("simulate", *cohort, "--simulate_patients=90", "--simulate_prevalence=0.3", folder=folder)
    prepared = run("prepare", *cohort, "--output=dataset", "--external_institutions=institution_3", folder=folder)
    (folder / "prepared.txt").write_text(prepared.stdout)
    trained = run("train", "--dataset=dataset", "--run=runs/test", *TINY, folder=folder)
    (folder / "trained.txt").write_text(trained.stdout)
    return folder


def test_prepare_prints_counts_by_institution_and_split(finished: Path) -> None:
    text = (finished / "prepared.txt").read_text()
    assert re.search(r"institution +train +validation +test", text)
    assert re.search(r"institution_3 \(external\) +0 \(0\) +0 \(0\) +\d+ \(\d+\)", text)


def test_train_ends_with_what_a_user_needs(finished: Path) -> None:
    text = (finished / "trained.txt").read_text()
    assert "0.83 M encoder and 0.26 M decoder weights" in text
    assert re.search(r"predicting the recording's mean: (0\.9|1\.0)\d;", text)
    assert re.search(r"institution_3 +external .* 0\.\d{3} \(0\.\d{3}-0\.\d{3}\)", text)
    assert "saved_models/test/1" in text
    commands = text[text.index("Next:") :].splitlines()[1:3]
    assert commands[0].strip() == "tensorboard --logdir runs/test"
    assert commands[1].strip() == "python -m keras_ecg_mae.predict --model=saved_models/test/1 FILE..."


def test_a_run_folder_has_what_the_design_says(finished: Path) -> None:
    folder = finished / "runs" / "test"
    expected = ["flags.txt", "run.json", "pretrain/autoencoder.keras", "pretrain/reconstruction.png"]
    expected += ["pretrain/metrics.csv", "finetune/classifier.keras", "finetune/0.001/metrics.csv"]
    expected += ["evaluation/predictions.csv", "evaluation/results.json", "evaluation/roc.png", "export/done.json"]
    assert [name for name in expected if not (folder / name).is_file()] == []
    (facts, *_) = json.loads((folder / "run.json").read_text())["commands"]
    assert facts["packages"]["tensorflow"] == metadata.version("tensorflow")
    assert facts["dataset"]["recordings"] > 100


def test_tensorboard_shows_pictures_scalars_and_hyperparameters(finished: Path) -> None:
    def tags(folder: str) -> dict[str, int]:
        counts: dict[str, int] = {}
        for path in (finished / "runs" / "test" / folder / "tensorboard").glob("events*"):
            for record in tf.data.TFRecordDataset(str(path)):
                for value in tf.compat.v1.Event.FromString(record.numpy()).summary.value:
                    counts[value.tag] = counts.get(value.tag, 0) + 1
        return counts

    pretraining, finetuning = tags("pretrain"), tags("finetune/0.001")
    assert pretraining["reconstruction"] == pretraining["validation/visible_error"] == 1
    assert pretraining["reconstruction/II"] == pretraining["reconstruction/QRS"] == 1
    assert pretraining["rate/gradient_norm"] == pretraining["machine/input_wait_share"] == 2
    assert finetuning["validation/auroc"] == 2
    assert 1 <= finetuning["validation/roc"] == finetuning["validation/calibration"] <= 2
    assert finetuning["_hparams_/session_start_info"] == 1


def test_running_again_repeats_nothing(finished: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in finished.rglob("*.keras")}
    again = run("train", "--flagfile=runs/test/flags.txt", folder=finished)
    assert again.stdout == (finished / "trained.txt").read_text()
    assert {path: path.stat().st_mtime_ns for path in finished.rglob("*.keras")} == before
    assert len(list((finished / "saved_models" / "test").iterdir())) == 1


def test_a_changed_setting_is_refused_with_the_difference(finished: Path) -> None:
    refused = run("train", "--flagfile=runs/test/flags.txt", "--mask_ratio=0.5", folder=finished, status=1)
    assert "mask_ratio: 0.75 then, 0.5 now" in refused.stderr
    # TensorFlow 2.21 says a few lines of its own when it is imported, whatever it is told.
    assert len([line for line in refused.stderr.splitlines() if not line.startswith(("WARNING: All", "I0000"))]) == 1


def test_predictions_of_files_are_those_of_the_evaluation(finished: Path) -> None:
    with (finished / "runs/test/evaluation/predictions.csv").open(newline="") as file:
        evaluated = {row["record_id"]: float(row["probability"]) for row in csv.DictReader(file)}
    with (finished / "recordings/labels.csv").open(newline="") as file:
        paths = {row["record_id"]: f"recordings/{row['path']}" for row in csv.DictReader(file)}
    chosen = list(evaluated)[:3] + list(evaluated)[-3:]
    answer = run(
        "predict", "--model=saved_models/test", "--format=json", *(paths[name] for name in chosen), folder=finished
    )
    predicted = [json.loads(line)["probability"] for line in answer.stdout.splitlines()]
    assert np.allclose(predicted, [evaluated[name] for name in chosen], rtol=0, atol=1e-5)


def test_predict_lists_a_file_it_cannot_use_among_good_ones(finished: Path) -> None:
    good = sorted((finished / "recordings" / "institution_1").glob("*.hea"))[:2]
    (finished / "broken.hea").write_text("nonsense\n")
    answer = run("predict", "--model=saved_models/test/1", good[0], "broken.hea", good[1], folder=finished, status=1)
    lines = answer.stdout.splitlines()
    assert lines[0].split() == ["lvsd_probability", "file"]
    assert re.fullmatch(r" *0\.\d{4}  .*\.hea", lines[1])
    assert re.fullmatch(r" *-  broken.hea: .+", lines[2])
    assert re.fullmatch(r" *0\.\d{4}  .*\.hea", lines[3])


def copied_dataset(finished: Path, folder: Path, **changes: object) -> Path:
    """A copy of the run's dataset, whose manifest says something else."""
    shutil.copytree(finished / "dataset", folder)
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps({**manifest, **changes}))
    return folder


def one_error(printed: str) -> str:
    """The sentence that a command ended with."""
    errors = [line for line in printed.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert "Traceback" not in printed
    return errors[0]


def test_evaluate_on_another_dataset_uses_the_runs_threshold(finished: Path, simulated: Manifest) -> None:
    answer = run("evaluate", "--run=runs/test", f"--dataset={simulated.folder}", folder=finished)
    assert re.search(r"^institution_3 +external", answer.stdout, re.MULTILINE)
    assert re.search(r"^\* .* may be among the test ECGs of institution_1, institution_2", answer.stdout, re.MULTILINE)
    names = ("evaluation", f"evaluation-dataset-{simulated.digest[:8]}")
    own, other = (read_results(finished / "runs/test" / name) for name in names)
    assert other.threshold == own.threshold
    assert other.threshold_rule == "chosen before, on other ECGs"


@pytest.mark.slow
def test_two_datasets_of_one_folder_name_have_results_of_their_own(finished: Path, tmp_path: Path) -> None:
    shutil.copytree(finished / "runs/test", tmp_path / "run")
    before = set((tmp_path / "run").iterdir())
    for hospital, external in (("one", ["institution_1"]), ("two", ["institution_2"])):
        copied_dataset(finished, tmp_path / hospital / "dataset", external_institutions=external)
        run("evaluate", "--run=run", f"--dataset={hospital}/dataset", folder=tmp_path)
    assert len(set((tmp_path / "run").iterdir()) - before) == 2


def test_a_dataset_of_another_label_is_refused_by_evaluate_and_export(finished: Path, tmp_path: Path) -> None:
    shutil.copytree(finished / "runs/test", tmp_path / "run")
    shutil.rmtree(tmp_path / "run/export")
    before = set((tmp_path / "run").rglob("*"))
    copied_dataset(finished, tmp_path / "other", label_name="female", external_institutions=["institution_2"])
    for command in ("evaluate", "export"):
        arguments = ("--run=run", "--dataset=other", "--name=other", "--export_despite_gate")
        error = one_error(run(command, *arguments, folder=tmp_path, status=1).stderr)
        assert re.search(r"other/manifest.json: .*lvsd .*Received .*female", error)
    assert set((tmp_path / "run").rglob("*")) == before
    assert not (tmp_path / "saved_models").exists()


def test_a_train_that_finds_the_run_locked_leaves_it_as_it_was(finished: Path) -> None:
    folder = finished / "runs/test"
    files = [folder / "flags.txt", folder / "run.json"]
    before = [file.read_bytes() for file in files]
    with run_lock(folder):
        refused = run("train", "--flagfile=runs/test/flags.txt", "--title=other", folder=finished, status=1)
    assert "another process is training" in one_error(refused.stderr)
    assert [file.read_bytes() for file in files] == before


@pytest.mark.slow
def test_shards_are_hashed_when_reading_them_fails_and_not_before(finished: Path, tmp_path: Path) -> None:
    dataset = copied_dataset(finished, tmp_path / "dataset")
    (shard,) = (dataset / "institution_3").glob("test-*")
    damaged = bytearray(shard.read_bytes())
    damaged[60_000:60_100] = bytes(100)
    shard.write_bytes(damaged)
    again = run("train", "--flagfile=runs/test/flags.txt", f"--dataset={dataset}", folder=finished)
    assert "AUROC" in again.stdout  # everything was done before: nothing is read
    manifest = json.loads((dataset / "manifest.json").read_text())
    (dataset / "manifest.json").write_text(json.dumps({**manifest, "external_institutions": ["institution_1"]}))
    refused = run("evaluate", "--run=runs/test", f"--dataset={dataset}", folder=finished, status=1)
    assert f"{shard}: Expected the SHA-256" in one_error(refused.stderr)


@pytest.mark.slow
def test_a_shard_that_vanishes_is_named(finished: Path, tmp_path: Path) -> None:
    shutil.copytree(finished / "dataset", tmp_path / "dataset")
    (shard,) = (tmp_path / "dataset" / "institution_1").glob("train-*")
    command = [sys.executable, "-m", "keras_ecg_mae.train", "--dataset=dataset", "--run=run", *TINY]
    training = subprocess.Popen(
        [*command, "--stages=pretrain", "--pretrain_epochs=500"],
        stderr=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
    )
    while not (tmp_path / "run" / "pretrain" / "metrics.csv").exists() and training.poll() is None:
        time.sleep(0.1)
    shard.unlink()
    _, errors = training.communicate(timeout=120)
    assert training.returncode == 1
    assert re.search(rf"^error: .*{shard.name}: Expected to read this file", errors, re.MULTILINE), errors


@pytest.mark.slow
def test_export_alone_takes_the_dataset_from_the_run(finished: Path, tmp_path: Path) -> None:
    shutil.copytree(finished / "runs", tmp_path / "runs")
    shutil.rmtree(tmp_path / "runs/test/export")
    arguments = (f"--run={tmp_path}/runs/test", f"--saved_models={tmp_path}/saved_models", "--name=other")
    answer = run("export", *arguments, "--export_despite_gate", folder=finished)
    assert answer.stdout == f"{tmp_path}/saved_models/other/1\n"
    card = (tmp_path / "saved_models/other/1/assets/model_card.md").read_text()
    assert "Pretraining saw, without labels, the train ECGs of institution_1, institution_2 (dataset dataset" in card
    described = json.loads((tmp_path / "saved_models/other/1/assets/model.json").read_text())
    assert (
        described["training_data"]
        == json.loads((finished / "runs/test/finetune/done.json").read_text())["training_data"]
    )


@pytest.mark.parametrize(
    ("command", "arguments", "message"),
    [
        ("prepare", ["--recordings=r", "--labels=l.csv"], "Expected --output. Received none."),
        ("train", ["--run=r"], "Expected --dataset. Received none."),
        ("train", ["--run=r", "--dataset=nowhere"], r"nowhere/manifest.json: Expected a dataset folder"),
        (
            "predict",
            ["--model=saved_models/test"],
            "Expected recordings: files and --files, or --dataset. Received none",
        ),
        (
            "train",
            [f"--flagfile={REPOSITORY}/pipelines/physionet.flags"],
            r"prepare --flagfile=\S*/physionet.flags --recordings=ROOT --labels=TABLE --output=runs/physionet/dataset$",
        ),
        ("predict", ["--model=nowhere", "file"], "nowhere: Expected an export"),
        ("evaluate", ["--run=nowhere", "--dataset=dataset"], "nowhere/.*Expected"),
        ("train", ["--run=r", "--dataset=dataset", "--size=giant"], "Expected --size to be one of tiny"),
        (
            "train",
            ["--run=r", "--dataset=dataset", "--stages=finetune", "--size=tiny", "--finetune_batch_size=8"],
            "run the stage pretrain first",
        ),
    ],
)
def test_what_the_user_must_mend_is_one_sentence(
    simulated: Manifest,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    command: str,
    arguments: list[str],
    message: str,
) -> None:
    """As `python -m` runs the module, but in this process: most of the time goes into loading TensorFlow."""
    (tmp_path / "dataset").symlink_to(simulated.folder)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [command, *arguments])
    monkeypatch.delitem(sys.modules, f"keras_ecg_mae.{command}", raising=False)
    define_flags()
    for name in FLAGS.flag_values_dict():
        FLAGS[name].unparse()
    with pytest.raises(SystemExit) as ended:
        runpy.run_module(f"keras_ecg_mae.{command}", run_name="__main__")
    assert ended.value.code == 1
    assert re.search(message, one_error(capsys.readouterr().err))
