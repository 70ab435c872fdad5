"""The stages of a run: each takes what the one before left in the run folder, and leaves its own."""

import json
import platform
import subprocess
import sys
from dataclasses import asdict
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from absl import logging

from keras_ecg_mae import __version__
from keras_ecg_mae.config import OWN_PRETRAINING, RANDOM, STAGES, Config
from keras_ecg_mae.dataset import Manifest, evaluation_batches, labelled_patients, steps_per_epoch
from keras_ecg_mae.dataset.storage import sha256
from keras_ecg_mae.errors import DatasetError, RunError
from keras_ecg_mae.evaluation.evaluate import Results, evaluate, format_results, read_results
from keras_ecg_mae.flags import flag_lines
from keras_ecg_mae.models.classifier import Classifier
from keras_ecg_mae.models.cnn import CnnClassifier
from keras_ecg_mae.run_folder import enter_stage, mark_done, read_done, write_json, write_whole
from keras_ecg_mae.serving.export import export_classifier
from keras_ecg_mae.training.finetune import CLASSIFIER, check_labels, finetune
from keras_ecg_mae.training.pretrain import AUTOENCODER, pretrain

FOLDERS = {"pretrain": "pretrain", "finetune": "finetune", "evaluate": "evaluation", "export": "export"}


def begin_run(config: Config, manifest: Manifest) -> None:
    """Looks for what would make a later stage fail, and writes `flags.txt` and `run.json`.

    Raises:
        DatasetError: the dataset cannot serve a stage that is asked for.
        RunError: the encoder to fine-tune is missing.
    """
    stages = config.training.stages
    if "pretrain" in stages:
        steps_per_epoch(manifest, config.pretraining.batch_size, labelled=False)
    if "finetune" in stages:
        check_labels(manifest)
        settings, seed = config.finetuning, config.training.seed
        steps_per_epoch(manifest, settings.batch_size, labelled=True, label_fraction=settings.label_fraction, seed=seed)
        if settings.label_fraction < 1:
            labelled_patients(manifest, settings.label_fraction, seed, "validation")
        if settings.encoder != OWN_PRETRAINING:
            _encoder(config)
    if "evaluate" in stages and not manifest.count("test", labelled=True):
        raise DatasetError(f"{manifest.path}: Expected labelled recordings in the split test. Received none.")
    run = Path(config.training.run)
    write_whole(run / "flags.txt", flag_lines(config))
    packages = ("keras", "tensorflow", "numpy")
    write_json(
        run / "run.json",
        {
            "began": datetime.now(timezone.utc).isoformat(timespec="seconds"),
            "command": sys.argv,
            "python": platform.python_version(),
            "version": __version__,
            "packages": {name: metadata.version(name) for name in packages},
            "git_revision": _git_revision(),
            "host": platform.platform(),
            "devices": [device.name for device in tf.config.list_physical_devices()],
            "dataset": {"folder": manifest.folder, "sha256": manifest.digest, "recordings": manifest.count()},
        },
    )


def _git_revision() -> str | None:
    """The revision of the checkout this package runs from, `-dirty` where files differ; None outside a checkout."""
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def run_stage(stage: str, config: Config, manifest: Manifest) -> dict[str, Any]:
    """Does a stage, or reads what it left when it was done before. Returns what its `done.json` holds.

    Raises:
        RunError: an earlier stage's result is missing, or the stage was begun with other settings.
    """
    folder = Path(config.training.run) / FOLDERS[stage]
    enter_stage(folder, _deciding_settings(stage, config, manifest))
    done = read_done(folder)
    if done is not None:
        logging.info("%s was done before: %s.", stage, folder)
        return done
    logging.info("%s begins: %s.", stage, folder)
    return _STAGES[stage](config, manifest, folder)


def _deciding_settings(stage: str, config: Config, manifest: Manifest) -> dict[str, Any]:
    """What decides a stage's result, earlier results included; not where it runs or how often it saves."""
    run = Path(config.training.run)
    common = {"dataset": manifest.digest, "precision": config.training.precision, "seed": config.training.seed}
    match stage:
        case "pretrain":
            weights = config.pretraining.initial_weights
            begun_from = {"initial_weights_sha256": sha256(weights) if Path(weights).is_file() else None}
            return {**common, **asdict(config.model), **asdict(config.pretraining), **begun_from}
        case "finetune":
            pretrained = read_done(run / FOLDERS["pretrain"]) if config.finetuning.encoder == OWN_PRETRAINING else None
            mae = asdict(config.mae_finetuning) if config.finetuning.recipe == "mae" else None
            return {
                **common,
                **asdict(config.model),
                **asdict(config.finetuning),
                "mae": mae,
                "pretrain": pretrained,
                "encoder_sha256": _encoder_sha256(config),
            }
    finetuned = read_done(run / FOLDERS["finetune"])
    if stage == "evaluate":
        return {"dataset": manifest.digest, "confidence": config.evaluation.confidence, "finetune": finetuned}
    return {**asdict(config.export), "finetune": finetuned, "evaluate": read_done(run / FOLDERS["evaluate"])}


def _pretrain(config: Config, manifest: Manifest, folder: Path) -> dict[str, Any]:
    return pretrain(config, manifest, folder)


def _finetune(config: Config, manifest: Manifest, folder: Path) -> dict[str, Any]:
    return finetune(config, manifest, folder, _encoder(config))


def _encoder(config: Config) -> Path | None:
    """The file that fine-tuning starts from; None for random weights. Raises `RunError` where it is missing."""
    name = config.finetuning.encoder
    if name == RANDOM:
        return None
    path = Path(config.training.run) / FOLDERS["pretrain"] / AUTOENCODER if name == OWN_PRETRAINING else Path(name)
    if not path.is_file():
        remedy = "run the stage pretrain first, or name one with" if name == OWN_PRETRAINING else "mend"
        raise RunError(f"{path}: Expected a pretrained encoder. Received no such file: {remedy} --finetune_encoder.")
    return path


def _encoder_sha256(config: Config) -> str | None:
    """Of an encoder from elsewhere, so that another file under the same name is not taken for it."""
    if config.finetuning.encoder in (OWN_PRETRAINING, RANDOM):
        return None
    return sha256(str(_encoder(config)))


def evaluate_dataset(config: Config, manifest: Manifest) -> tuple[Path, Results]:
    """Evaluates a run's classifier on its own dataset (the stage `evaluate`), or on another one."""
    run = Path(config.training.run)
    own = json.loads((run / "run.json").read_text())["dataset"]["sha256"] if (run / "run.json").exists() else None
    if own == manifest.digest:
        run_stage("evaluate", config, manifest)
        return run / FOLDERS["evaluate"], read_results(run / FOLDERS["evaluate"])
    folder = run / f"{FOLDERS['evaluate']}-{Path(manifest.folder).name}"
    threshold = read_results(run / FOLDERS["evaluate"]).threshold
    return folder, _evaluate_classifier(config, manifest, folder, threshold)


def _evaluate(config: Config, manifest: Manifest, folder: Path) -> dict[str, Any]:
    results = _evaluate_classifier(config, manifest, folder, None)
    done = {"threshold": results.threshold}
    mark_done(folder, done)
    return done


def _evaluate_classifier(config: Config, manifest: Manifest, folder: Path, threshold: float | None) -> Results:
    classifier = load_classifier(config)
    predict = tf.function(classifier.probability, reduce_retracing=True)
    batches = evaluation_batches(
        manifest, ["validation", "test"], batch_size=config.evaluation.evaluate_batch_size, labelled=True
    )
    return evaluate(
        lambda ecg: np.asarray(predict(tf.constant(ecg))),
        batches.as_numpy_iterator(),
        folder,
        external_institutions=manifest.external_institutions,
        label_name=manifest.label_name,
        confidence=config.evaluation.confidence,
        threshold=threshold,
    )


def load_classifier(config: Config) -> Classifier | CnnClassifier:
    """The run's fine-tuned classifier. Raises `RunError` where there is none."""
    path = Path(config.training.run) / FOLDERS["finetune"] / CLASSIFIER
    if not path.is_file():
        raise RunError(
            f"{path}: Expected a fine-tuned classifier. Received no such file: run the stage finetune first."
        )
    return keras.models.load_model(path, compile=False)


def _export(config: Config, manifest: Manifest, folder: Path) -> dict[str, Any]:
    results = read_results(Path(config.training.run) / FOLDERS["evaluate"])
    version = export_classifier(
        load_classifier(config),
        Path(config.export.saved_models) / config.export.name,
        label_name=manifest.label_name,
        threshold=results.threshold,
        provenance={
            "run": config.training.run,
            "dataset": manifest.digest,
            "threshold_rule": results.threshold_rule,
            "evaluation": [
                {"institution": group.name, "role": group.role, "ecgs": group.ecgs, "auroc": asdict(group.auroc)}
                for group in results.groups
            ],
        },
    )
    done = {"saved_model": str(version)}
    mark_done(folder, done)
    return done


_STAGES = {"pretrain": _pretrain, "finetune": _finetune, "evaluate": _evaluate, "export": _export}


def summary(config: Config, manifest: Manifest) -> str:
    """What a run has come to: a short text for the console."""
    run = Path(config.training.run)
    done = {stage: read_done(run / folder) for stage, folder in FOLDERS.items()}
    lines = ["", f"Run {run}"]
    if pretrained := done["pretrain"]:
        lines += [
            f"  pretrained   {config.model.size}: {pretrained['encoder_weights'] / 1e6:.2f} M encoder and "
            f"{pretrained['decoder_weights'] / 1e6:.2f} M decoder weights, {pretrained['steps']:,} steps",
            "               error on hidden patches of validation recordings, as a share of their variance: "
            f"{pretrained['validation_error']:.2f}",
            f"               (predicting the recording's mean: {pretrained['validation_record_mean']:.2f}; the mean of "
            f"the lead's visible patches: {pretrained['validation_lead_visible_mean']:.2f})",
        ]
        if pretrained["validation_error"] > 0.9 * pretrained["validation_lead_visible_mean"]:
            lines.append("               This is hardly better than the trivial predictors: pretrain for longer.")
    if finetuned := done["finetune"]:
        lines.append(
            f"  fine-tuned   at {finetuned['learning_rate']:g}, epoch {finetuned['epoch'] + 1}: lowest validation loss "
            f"{finetuned['validation_loss']:.4f}"
        )
    if done["evaluate"] is not None:
        results = read_results(run / FOLDERS["evaluate"])
        lines += [f"  evaluated    {manifest.label_name}, test recordings:", ""]
        lines += [f"    {line}" for line in format_results(results).splitlines()]
        lines.append("")
        if config.evaluation.expected_auroc:
            lines += [f"    {_verdict(results, config.evaluation.expected_auroc)}", ""]
    next_commands = [f"tensorboard --logdir {run}"]
    if exported := done["export"]:
        lines.append(f"  exported     {exported['saved_model']}")
        next_commands.append(f"python -m keras_ecg_mae.predict --model={exported['saved_model']} FILE...")
    else:
        own = config.finetuning.encoder == OWN_PRETRAINING
        missing = ",".join(stage for stage in STAGES if not done[stage] and (own or stage != "pretrain"))
        next_commands.append(f"python -m keras_ecg_mae.train --flagfile={run / 'flags.txt'} --stages={missing}")
    return "\n".join([*lines, "", "Next:", *(f"  {command}" for command in next_commands), ""])


def _verdict(results: Results, expected: float) -> str:
    """Whether the whole interval of the last pool (external where there is one) lies above what was expected."""
    pool = results.groups[-1]
    level = f"{100 * results.confidence:g}% interval of {pool.name}"
    if pool.auroc.low is None:
        return f"Expected the {level} above {expected:g}. Received none: its AUROC is undefined."
    if pool.auroc.low > expected:
        return f"As expected, the {level} lies above {expected:g}."
    return f"NOT AS EXPECTED: the {level} begins at {pool.auroc.low:.3f}, not above {expected:g}."
