"""What a run records and refuses, and what it says at its end."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from keras_ecg_mae import stages
from keras_ecg_mae.config import Config, Evaluation, MaeFinetuning, Training
from keras_ecg_mae.dataset import Manifest, read_manifest
from keras_ecg_mae.errors import RunError
from keras_ecg_mae.evaluation.evaluate import evaluate
from keras_ecg_mae.files import write_json
from keras_ecg_mae.runs.fingerprint import check_fingerprint, stage_fingerprint
from keras_ecg_mae.runs.folder import mark_done, read_done
from keras_ecg_mae.runs.record import read_commands
from keras_ecg_mae.stages import begin_run, run_stage, summary
from keras_ecg_mae.training.finetune import learning_rates

DIVERGED = {"validation_loss": None, "diverged": "in step 3"}


def changed(config: Config, section: str, **values: Any) -> Config:
    return replace(config, **{section: replace(getattr(config, section), **values)})


@pytest.fixture
def quick_stages(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stages that are done at once, with the same result each time."""

    def stage(config: Config, manifest: Manifest, folder: Path) -> dict[str, Any]:
        rates = [{"learning_rate": rate, "validation_loss": 0.5} for rate in learning_rates(config)]
        mark_done(folder, {"steps": 3, "learning_rates": rates})
        return {"steps": 3}

    for name in ("pretrain", "finetune"):
        monkeypatch.setitem(stages.run._STAGES, name, stage)


def test_a_later_command_adds_to_the_record(tiny_config: Config, simulated: Manifest) -> None:
    begin_run(changed(tiny_config, "training", title="MAE", stages=("pretrain", "finetune")), simulated)
    begin_run(changed(tiny_config, "training", stages=("evaluate",)), simulated)
    commands = read_commands(Path(tiny_config.training.run))
    assert [command.title for command in commands] == ["MAE", ""]
    assert [command.stages for command in commands] == [["pretrain", "finetune"], ["evaluate"]]
    assert commands[0].dataset.sha256 == simulated.digest
    assert commands[0].devices


def test_a_run_stays_with_its_dataset(tiny_config: Config, simulated: Manifest, tmp_path: Path) -> None:
    begin_run(tiny_config, simulated)
    shutil.copytree(simulated.folder, tmp_path / "moved")
    begin_run(tiny_config, read_manifest(str(tmp_path / "moved")))
    record = (Path(tiny_config.training.run) / "run.json").read_text()
    other = replace(simulated, folder="elsewhere", label_name="other")
    with pytest.raises(
        RunError, match=f"{simulated.folder} with .*{simulated.digest}. Received elsewhere with {other.digest}"
    ):
        begin_run(tiny_config, other)
    assert (Path(tiny_config.training.run) / "run.json").read_text() == record


def test_a_refused_command_leaves_the_record_and_flags(
    tiny_config: Config, simulated: Manifest, quick_stages: None
) -> None:
    begin_run(tiny_config, simulated)
    for stage in ("pretrain", "finetune"):
        run_stage(stage, tiny_config, simulated)
    files = [Path(tiny_config.training.run) / name for name in ("run.json", "flags.txt")]
    before = [file.read_text() for file in files]
    for section, values, says in (
        ("model", {"mask_ratio": 0.5}, "pretrain/settings.json: .*mask_ratio: 0.75 then, 0.5 now"),
        ("finetuning", {"epochs": 3}, "finetune/settings.json: .*epochs: 2 then, 3 now"),
    ):
        with pytest.raises(RunError, match=says):
            begin_run(changed(tiny_config, section, **values), simulated)
    assert [file.read_text() for file in files] == before


@pytest.mark.parametrize(
    ("stage", "section", "values"),
    [
        ("pretrain", "model", {"pooling": "class_token"}),
        ("pretrain", "pretraining", {"validation_epochs": 7}),
        ("pretrain", "finetuning", {"epochs": 7}),
        ("pretrain", "training", {"checkpoint_minutes": 7, "title": "other", "accumulation": 2}),
        ("finetune", "model", {"mask_ratio": 0.5, "normalize_target": True}),
        ("finetune", "pretraining", {"epochs": 7}),
    ],
)
def test_what_decides_nothing_in_a_stage_refuses_nothing(
    tiny_config: Config, simulated: Manifest, quick_stages: None, stage: str, section: str, values: dict[str, Any]
) -> None:
    run_stage(stage, tiny_config, simulated)
    assert run_stage(stage, changed(tiny_config, section, **values), simulated)["steps"] == 3


@pytest.mark.parametrize(
    ("stage", "section", "name", "value"),
    [
        ("pretrain", "model", "size", "small"),
        ("pretrain", "model", "normalization", "record"),
        ("pretrain", "model", "mask_ratio", 0.5),
        ("pretrain", "model", "normalize_target", True),
        ("pretrain", "pretraining", "epochs", 7),
        ("pretrain", "training", "seed", 7),
        ("finetune", "model", "size", "small"),
        ("finetune", "model", "normalization", "record"),
        ("finetune", "model", "pooling", "class_token"),
        ("finetune", "finetuning", "patience", 7),
    ],
)
def test_what_decides_a_stage_is_refused_by_name(
    tiny_config: Config, simulated: Manifest, quick_stages: None, stage: str, section: str, name: str, value: Any
) -> None:
    run_stage(stage, tiny_config, simulated)
    with pytest.raises(RunError, match=f"{name}: .* then, {value!r} now"):
        run_stage(stage, changed(tiny_config, section, **{name: value}), simulated)


def test_a_vits_settings_decide_nothing_in_a_cnn(tiny_config: Config, simulated: Manifest, quick_stages: None) -> None:
    config = changed(tiny_config, "training", stages=("finetune",))
    finetuning = replace(config.finetuning, encoder="random")
    config = replace(config, finetuning=finetuning, model=replace(config.model, architecture="cnn"))
    run_stage("finetune", config, simulated)
    run_stage("finetune", changed(config, "model", size="large", pooling="class_token", mask_ratio=0.5), simulated)
    with pytest.raises(RunError, match="normalization: 'lead' then, 'record' now"):
        run_stage("finetune", changed(config, "model", normalization="record"), simulated)
    with pytest.raises(RunError, match="architecture: 'cnn' then, 'vit' now"):
        run_stage("finetune", changed(config, "model", architecture="vit"), simulated)


def test_the_other_recipe_is_refused_and_the_same_one_is_not(
    tiny_config: Config, simulated: Manifest, quick_stages: None
) -> None:
    defaults = type(tiny_config.finetuning)
    by_mae = replace(defaults(), recipe="mae", batch_size=8)
    config = replace(tiny_config, finetuning=by_mae, mae_finetuning=MaeFinetuning(epochs=2, warmup_epochs=1))
    run_stage("finetune", config, simulated)
    run_stage("finetune", config, simulated)
    with pytest.raises(RunError, match=r"mae: .*'epochs': 2.* then, .*'epochs': 3.* now"):
        run_stage("finetune", changed(config, "mae_finetuning", epochs=3), simulated)
    with pytest.raises(RunError, match="recipe: 'mae' then, 'paper' now"):
        run_stage("finetune", tiny_config, simulated)


def test_pretraining_on_other_splits_is_another_pretraining(
    tiny_config: Config, simulated: Manifest, quick_stages: None
) -> None:
    run_stage("pretrain", tiny_config, simulated)
    with pytest.raises(RunError, match=r"splits: \['train'\] then, \['train', 'test'\] now"):
        run_stage("pretrain", changed(tiny_config, "pretraining", splits=("train", "test")), simulated)


def test_an_evaluation_of_the_classifier_before_is_refused_in_a_sentence(
    tiny_config: Config, simulated: Manifest
) -> None:
    run = Path(tiny_config.training.run)
    mark_done(run / "finetune", {"steps": 3})
    then = stage_fingerprint("evaluate", tiny_config, simulated.digest)
    write_json(run / "evaluation" / "settings.json", then)
    mark_done(run / "evaluation", {})
    mark_done(run / "finetune", {"steps": 4})
    with pytest.raises(RunError, match=r"other ones: the stage finetune was done anew\. Give"):
        check_fingerprint(run / "evaluation", stage_fingerprint("evaluate", tiny_config, simulated.digest))


def test_learning_rates_may_change_where_nothing_comes_of_it(
    tiny_config: Config, simulated: Manifest, quick_stages: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def asked(*rates: float) -> Config:
        config = changed(tiny_config, "training", stages=("finetune",))
        return changed(config, "finetuning", encoder="random", learning_rates=rates)

    def run(config: Config) -> None:
        begin_run(config, simulated)
        run_stage("finetune", config, simulated)

    def all_diverge(config: Config, manifest: Manifest, folder: Path) -> dict[str, Any]:
        mark_done(folder / "0.1", {"learning_rate": 0.1, **DIVERGED})
        raise RunError("all diverged")

    with monkeypatch.context() as patched:
        patched.setitem(stages.run._STAGES, "finetune", all_diverge)
        with pytest.raises(RunError, match="all diverged"):
            run(asked(0.1))
    run(asked(1e-3, 1e-4))  # an unfinished search may go on with others
    folder = Path(tiny_config.training.run) / "finetune"
    done = read_done(folder) or {}
    mark_done(folder, {**done, "learning_rates": [*done["learning_rates"], {"learning_rate": 0.1, **DIVERGED}]})
    run(asked(1e-4, 1e-3))
    run(asked(0.1, 1e-4, 1e-3))
    for other in (asked(1e-3), asked(1e-3, 1e-4, 1e-5)):
        with pytest.raises(RunError, match=r"done.json: Expected the learning rates .* 0.0001, 0.001. Received"):
            begin_run(other, simulated)
        with pytest.raises(RunError, match=r"done.json: Expected the learning rates"):
            run_stage("finetune", other, simulated)


def evaluated(run: Path, quality: float, both_labels: bool = True) -> None:
    """A finished evaluation of a made-up classifier: `quality` separates the labels."""
    generator = np.random.default_rng(0)
    label = generator.integers(0, 2, 400) if both_labels else np.zeros(400, int)
    batch = {
        "ecg": (quality * label + generator.normal(size=400)).astype("float32").reshape(400, 1, 1),
        "label": label,
        "record_id": np.array([f"r{index}" for index in range(400)]),
        "patient_key": np.array([f"p{index}" for index in range(400)]),
        "institution": np.where(np.arange(400) < 100, "a", "b"),
        "split": np.where(np.arange(400) < 50, "validation", "test"),
    }
    evaluate(
        lambda ecg: 1 / (1 + np.exp(-ecg[:, 0, 0])),
        [batch],
        run / "evaluation",
        external_institutions=("b",),
        label_name="lvsd",
        confidence=0.95,
    )
    mark_done(run / "evaluation", {})


@pytest.mark.parametrize(
    ("quality", "both_labels", "says"),
    [
        (2.0, True, "As expected, the 95% interval of all external lies above 0.75."),
        (0.5, True, "NOT AS EXPECTED: the 95% interval of all external begins at 0.5"),
        (2.0, False, "Expected the 95% interval of all external above 0.75. Received none: its AUROC is undefined."),
    ],
)
def test_the_summary_says_whether_the_auroc_is_as_expected(
    simulated: Manifest, tmp_path: Path, quality: float, both_labels: bool, says: str
) -> None:
    evaluated(tmp_path, quality, both_labels)
    config = Config(training=Training(run=str(tmp_path)), evaluation=Evaluation(expected_auroc=0.75))
    assert says in summary(config)
    assert "xpected" not in summary(replace(config, evaluation=Evaluation()))


def test_the_summary_says_when_pretraining_was_too_short(simulated: Manifest, tmp_path: Path) -> None:
    weights = {"encoder_weights": 825_600, "decoder_weights": 260_602}
    done = {**weights, "steps": 10, "validation_record_mean": 1.0, "validated_on": "validation recordings"}
    mark_done(tmp_path / "pretrain", {**done, "validation_error": 0.95, "validation_lead_visible_mean": 0.92})
    config = Config(training=Training(run=str(tmp_path)))
    text = summary(config)
    assert "hardly better than the trivial predictors" in text
    assert f"--flagfile={tmp_path}/flags.txt --stages=finetune,evaluate,export" in text
    mark_done(tmp_path / "pretrain", {**done, "validation_error": 0.5, "validation_lead_visible_mean": 0.92})
    assert "hardly" not in summary(config)
