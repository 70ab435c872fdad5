"""Where a stage leaves what it makes, and what decides it."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from keras_ecg_mae.config import OWN_PRETRAINING, RANDOM, Config, Section
from keras_ecg_mae.dataset import Manifest
from keras_ecg_mae.errors import RunError
from keras_ecg_mae.files import sha256, storage_path
from keras_ecg_mae.runs.folder import DONE, FOLDERS, read_done
from keras_ecg_mae.runs.training_data import AUTOENCODER
from keras_ecg_mae.training.finetune import trials

AUTOENCODER_EXPORT = "export_autoencoder"  # of the same run, beside its classifier's
# What decides whether a model is exported, and nothing about the export.
_GATE = ("export_minimum_auroc", "export_minimum_institution_auroc", "export_auroc_tolerance", "export_despite_gate")


def stage_folder(stage: str, config: Config) -> Path:
    """Where a stage leaves what it makes."""
    of_autoencoder = stage == "export" and config.export.exported == "autoencoder"
    return storage_path(config.training.run) / (AUTOENCODER_EXPORT if of_autoencoder else FOLDERS[stage])


def deciding_settings(stage: str, config: Config, manifest: Manifest) -> dict[str, Any]:
    """What decides a stage's result, earlier results included; not where it runs or how often it saves."""
    run = storage_path(config.training.run)
    common = {"dataset": manifest.digest, "precision": config.training.precision, "seed": config.training.seed}
    match stage:
        case "pretrain":
            weights = config.pretraining.initial_weights
            return {
                **common,
                **_without(config.model, "architecture", "pooling"),
                **_without(config.pretraining, "validation_epochs"),
                "initial_weights_sha256": sha256(weights) if storage_path(weights).is_file() else None,
            }
        case "finetune":
            # The classifier's own; what its encoder was pretrained with is among that one's settings.
            idle = ["mask_ratio", "normalize_target"]
            idle += ["size", "pooling"] if config.model.architecture == "cnn" else []
            by_mae = config.finetuning.recipe == "mae"
            own = config.finetuning.encoder == OWN_PRETRAINING
            return {
                **common,
                **_without(config.model, *idle),
                # Each learning rate is a training of its own: `expect_rates` looks at them.
                **_without(config.finetuning, "learning_rates", *(["epochs", "patience"] if by_mae else [])),
                "mae": asdict(config.mae_finetuning) if by_mae else None,
                "pretrain": read_done(run / FOLDERS["pretrain"]) if own else None,
                "encoder_sha256": _encoder_sha256(config),
            }
    finetuned = read_done(run / FOLDERS["finetune"])
    if stage == "evaluate":
        return {"dataset": manifest.digest, "confidence": config.evaluation.confidence, "finetune": finetuned}
    settings = _without(config.export, *_GATE)
    if config.export.exported == "autoencoder":
        return {**settings, "pretrain": read_done(run / FOLDERS["pretrain"])}
    return {**settings, "finetune": finetuned, "evaluate": read_done(run / FOLDERS["evaluate"])}


def expect_rates(config: Config, folder: Path, done: Mapping[str, Any]) -> None:
    """Raises `RunError` where a finished fine-tuning is asked for with other learning rates, but for diverged ones."""
    diverged = {result["learning_rate"] for result in done["learning_rates"] if result["validation_loss"] is None}
    noted = {result["learning_rate"] for result in done["learning_rates"]} - diverged
    asked = {trial.learning_rate for trial in trials(config)} - diverged
    if asked != noted:
        then, now = (", ".join(f"{rate:g}" for rate in sorted(rates)) for rates in (noted, asked))
        raise RunError(
            f"{folder / DONE}: Expected the learning rates that fine-tuning was done with, {then}. Received {now}: "
            "give another --run, or remove the stage's folder to do it again."
        )


def _without(section: Section, *idle: str) -> dict[str, Any]:
    """A section's settings but for those that decide nothing here."""
    return {name: value for name, value in vars(section).items() if name not in idle}


def pretrained_encoder(config: Config) -> Path | None:
    """The file that fine-tuning starts from; None for random weights. Raises `RunError` where it is missing."""
    name = config.finetuning.encoder
    if name == RANDOM:
        return None
    own = storage_path(config.training.run) / FOLDERS["pretrain"] / AUTOENCODER
    path = own if name == OWN_PRETRAINING else storage_path(name)
    if not path.is_file():
        remedy = "run the stage pretrain first, or name one with" if name == OWN_PRETRAINING else "mend"
        raise RunError(f"{path}: Expected a pretrained encoder. Received no such file: {remedy} --finetune_encoder.")
    return path


def _encoder_sha256(config: Config) -> str | None:
    """Of an encoder from elsewhere, so that another file under the same name is not taken for it."""
    if config.finetuning.encoder in (OWN_PRETRAINING, RANDOM):
        return None
    return sha256(str(pretrained_encoder(config)))
