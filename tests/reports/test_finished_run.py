"""What a run's folder must hold to be reported on."""

import hashlib
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from keras_ecg_mae import __version__
from keras_ecg_mae.errors import RunError
from keras_ecg_mae.files import write_json
from keras_ecg_mae.reports.finished_run import read_finished_run
from keras_ecg_mae.runs.folder import Made, mark_done, read_done
from keras_ecg_mae.runs.record import read_commands, record_command

MakeRun = Callable[..., Path]


def test_a_run_is_read_with_what_traces_its_numbers(made_run: MakeRun) -> None:
    folder = made_run("vit", "--title=MAE = ViT", "--finetune_encoder=runs/a b/autoencoder.keras")
    run = read_finished_run(folder)
    assert (run.title, run.is_cnn, run.settings["size"]) == ("MAE = ViT", False, "large")
    assert run.trained.initial_weights == "runs/a b/autoencoder.keras"
    assert run.labels == 100 + run.results.validation.ecgs
    assert run.finetuned == Made("2026-01-02T04:04:05+00:00", "0123abc-dirty", "0.1.0")
    assert run.evaluated == Made("2026-01-02T05:04:05+00:00", "0123abc-dirty", "0.1.0")
    assert run.pretrained is None
    assert (run.dataset.folder, run.dataset.recordings) == ("missing/dataset1", 400)
    table = (folder / "evaluation" / "predictions.csv").read_bytes()
    assert run.predictions_sha256 == hashlib.sha256(table).hexdigest()
    assert set(run.test["split"]) == {"test"}
    for group in run.results.groups:
        assert len(run.rows_of(group)) == group.ecgs


def test_without_flags_of_its_own_a_run_is_a_vit_called_after_its_folder(made_run: MakeRun) -> None:
    run = read_finished_run(made_run("my run", "--title="))
    assert (run.title, run.is_cnn, sorted(run.pictures)) == ("my run", False, ["calibration", "roc"])


def test_an_unfinished_run_is_refused_with_all_that_is_missing(made_run: MakeRun) -> None:
    folder = made_run("run")
    (folder / "evaluation" / "done.json").unlink()
    (folder / "evaluation" / "results.json").unlink()
    with pytest.raises(
        RunError,
        match=r"without evaluation/done.json, evaluation/results.json: run .* --flagfile.* --stages=finetune,evaluate",
    ):
        read_finished_run(folder)


@pytest.mark.parametrize(("anew", "kept"), [("finetune", "evaluation"), ("pretrain", "finetune")])
def test_what_was_made_of_an_earlier_model_is_refused(made_run: MakeRun, anew: str, kept: str) -> None:
    folder = made_run("run")
    done = read_done(folder / anew)
    assert done is not None
    mark_done(folder / anew, done)  # the same result at another time
    read_finished_run(folder)
    mark_done(folder / anew, {**done, "steps": 4})
    with pytest.raises(RunError, match=rf"{kept}: Expected results of the model in .*{anew}\."):
        read_finished_run(folder)


def test_a_pretraining_that_the_run_does_not_start_from_may_be_done_anew(made_run: MakeRun) -> None:
    folder = made_run("run", "--finetune_encoder=random")
    mark_done(folder / "pretrain", {"steps": 4})
    assert read_finished_run(folder).pretrained is None


@pytest.mark.parametrize("broken", ["{", "[]", "{}", '{"commands": []}', '{"commands": [{"dataset": null}]}'])
def test_a_broken_record_is_named(made_run: MakeRun, broken: str) -> None:
    folder = made_run("run")
    (folder / "run.json").write_text(broken)
    with pytest.raises(RunError, match=r"run.json: Expected the record of a run. Received something else"):
        read_finished_run(folder)


def test_a_later_command_does_not_hide_what_was_made_before(made_run: MakeRun) -> None:
    folder = made_run("run", "--title=MAE")
    (trained,) = read_commands(folder)
    # As `train --stages=evaluate` from another checkout, without the flag file, would leave it.
    record_command(folder, replace(trained, title="", stages=["evaluate"], git_revision="9999"))
    made = Made(done="2026-02-03T00:00:00+00:00", git_revision=None, version="0.2.0")
    write_json(folder / "evaluation" / "done.json", {"made": asdict(made)})
    run = read_finished_run(folder)
    assert run.title == "MAE"
    assert run.finetuned == Made("2026-01-02T04:04:05+00:00", "0123abc-dirty", "0.1.0")
    assert run.evaluated == made


def test_a_run_is_called_anew_by_a_command_that_repeats_nothing(made_run: MakeRun) -> None:
    folder = made_run("run", "--title=MAE")
    (trained,) = read_commands(folder)
    record_command(folder, replace(trained, title="Masked autoencoder"))
    assert read_finished_run(folder).title == "Masked autoencoder"


def test_who_pretrained_is_told_where_the_run_did(made_run: MakeRun) -> None:
    own, other = made_run("own"), made_run("other", "--finetune_encoder=random")
    for folder in (own, other):
        mark_done(folder / "pretrain", {"steps": 3})
    pretrained = read_finished_run(own).pretrained
    assert pretrained is not None
    assert pretrained.version == __version__
    assert read_finished_run(other).pretrained is None
