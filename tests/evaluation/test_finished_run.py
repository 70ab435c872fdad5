"""What a run's folder must hold to be reported on."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from keras_ecg_mae.errors import RunError
from keras_ecg_mae.evaluation.finished_run import read_finished_run
from keras_ecg_mae.run_folder import write_json

MakeRun = Callable[..., Path]


def test_a_run_is_read_with_what_traces_its_numbers(made_run: MakeRun) -> None:
    folder = made_run("vit", "--title=MAE = ViT", "--finetune_encoder=runs/a b/autoencoder.keras")
    run = read_finished_run(folder)
    assert (run.title, run.architecture, run.encoder) == ("MAE = ViT", "vit", "runs/a b/autoencoder.keras")
    assert (run.git_revision, run.version, run.began) == ("0123abc-dirty", "0.1.0", "2026-01-02T03:04:05+00:00")
    assert (run.dataset.folder, run.dataset.recordings) == ("missing/dataset1", 400)
    table = (folder / "evaluation" / "predictions.csv").read_bytes()
    assert run.predictions_sha256 == hashlib.sha256(table).hexdigest()
    assert set(run.test["split"]) == {"test"}
    for group in run.results.groups:
        assert len(run.rows_of(group)) == group.ecgs


def test_without_flags_of_its_own_a_run_is_a_vit_called_after_its_folder(made_run: MakeRun) -> None:
    run = read_finished_run(made_run("my run", "--title="))
    assert (run.title, run.architecture, run.pictures) == ("my run", "vit", {})


def test_an_unfinished_run_is_refused_with_all_that_is_missing(made_run: MakeRun) -> None:
    folder = made_run("run")
    (folder / "evaluation" / "done.json").unlink()
    (folder / "evaluation" / "results.json").unlink()
    with pytest.raises(RunError, match=r"without evaluation/done.json, evaluation/results.json: run .* --flagfile"):
        read_finished_run(folder)


def test_an_evaluation_of_another_dataset_is_refused(made_run: MakeRun) -> None:
    folder = made_run("run")
    (folder / "evaluation" / "settings.json").write_text('{"dataset": "0123"}')
    with pytest.raises(RunError, match=r"settings.json: Expected .* the dataset of run.json.* Received one on 0123"):
        read_finished_run(folder)


@pytest.mark.parametrize("broken", ["{", "[]", "{}", '{"dataset": null}'])
def test_a_broken_description_is_named(made_run: MakeRun, broken: str) -> None:
    folder = made_run("run")
    (folder / "run.json").write_text(broken)
    with pytest.raises(RunError, match=r"run.json: Expected the description of a run. Received something else"):
        read_finished_run(folder)


def test_a_run_from_outside_a_checkout_has_no_revision(made_run: MakeRun) -> None:
    folder = made_run("run")
    description = json.loads((folder / "run.json").read_text())
    (folder / "run.json").write_text(json.dumps({**description, "git_revision": None}))
    assert read_finished_run(folder).git_revision == ""


def test_what_was_trained_is_told_by_fine_tuning_and_not_by_the_last_command(made_run: MakeRun) -> None:
    run = made_run("run", "--architecture=vit")  # as `train --stages=evaluate` without the flag file would leave it
    write_json(run / "finetune" / "settings.json", {"architecture": "cnn", "encoder": "random"})
    finished = read_finished_run(run)
    assert (finished.architecture, finished.encoder) == ("cnn", "random")
