"""Who may go on with a run: what decides each stage's result, and the refusal of a stage begun with anything else."""

import json
from collections.abc import Collection, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from keras_ecg_mae.config import OWN_PRETRAINING, RANDOM, Config, Section
from keras_ecg_mae.errors import RunError
from keras_ecg_mae.files import PARTIAL, files_under, read_json, sha256, storage_path, write_json
from keras_ecg_mae.runs.folder import DONE, FOLDERS, SETTINGS, read_done
from keras_ecg_mae.runs.record import RECORD, Dataset, read_commands
from keras_ecg_mae.runs.training_data import AUTOENCODER

AUTOENCODER_EXPORT = "export_autoencoder"  # of the same run, beside its classifier's
# What decides whether a model is exported, and nothing about the export.
_GATE = ("export_minimum_auroc", "export_minimum_institution_auroc", "export_auroc_tolerance", "export_despite_gate")


def stage_folder(stage: str, config: Config) -> Path:
    """Where a stage leaves what it makes."""
    of_autoencoder = stage == "export" and config.export.exported == "autoencoder"
    return storage_path(config.training.run) / (AUTOENCODER_EXPORT if of_autoencoder else FOLDERS[stage])


def model_stage(stage: str, config: Config) -> str:
    """Which stage made the model that the stage `evaluate` or `export` takes."""
    return "pretrain" if stage == "export" and config.export.exported == "autoencoder" else "finetune"


def stage_fingerprint(stage: str, config: Config, dataset: str) -> dict[str, Any]:
    """What decides a stage's result, earlier results included; not where it runs or how often it saves.

    `dataset` is the dataset's checksum.
    """
    common = {"dataset": dataset, "precision": config.training.precision, "seed": config.training.seed}
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
            # The classifier's own; what its encoder was pretrained with is in that stage's fingerprint.
            idle = ["mask_ratio", "normalize_target"]
            idle += ["size", "pooling"] if config.model.architecture == "cnn" else []
            by_mae = config.finetuning.recipe == "mae"
            own = config.finetuning.encoder == OWN_PRETRAINING
            return {
                **common,
                **_without(config.model, *idle),
                # Each learning rate is a training of its own: `check_learning_rates` looks at them.
                **_without(config.finetuning, "learning_rates", *(["epochs", "patience"] if by_mae else [])),
                "mae": asdict(config.mae_finetuning) if by_mae else None,
                "pretrain": _result("pretrain", config) if own else None,
                "encoder_sha256": _encoder_sha256(config),
            }
        case "evaluate":
            settings = {
                "confidence": config.evaluation.confidence,
                "threshold_rule": config.evaluation.threshold_rule,
            }
            return {"dataset": dataset, **settings, "finetune": _result("finetune", config)}
    settings = _without(config.export, *_GATE)
    if config.export.exported == "autoencoder":
        return {**settings, "pretrain": _result("pretrain", config)}
    return {**settings, "finetune": _result("finetune", config), "evaluate": _result("evaluate", config)}


def open_stage(folder: Path, fingerprint: Mapping[str, Any]) -> None:
    """Notes what decides a stage's result, or finds it unchanged since the stage was begun: see `check_fingerprint`."""
    check_fingerprint(folder, fingerprint)
    if not _has_output(folder):
        write_json(folder / SETTINGS, fingerprint)


def check_fingerprint(folder: Path, fingerprint: Mapping[str, Any]) -> None:
    """Raises `RunError` where a stage was begun with another fingerprint; names each difference.

    A stage that failed before it left any file, as on weights that could not be read, may be begun anew with others.
    """
    path = folder / SETTINGS
    noted = read_json(path) or {}  # before the listing, which cannot tell a storage that is out of reach
    if not _has_output(folder):
        return
    asked = json.loads(json.dumps(fingerprint))
    changed = [
        f"the stage {name} was done anew"
        if name in FOLDERS and noted.get(name) and asked[name]
        else f"{name}: {noted.get(name)!r} then, {asked[name]!r} now"
        for name in sorted(asked)
        if noted.get(name) != asked[name]
    ]
    if changed:
        raise RunError(
            f"{path}: Expected the settings this stage was begun with. Received other ones: {'; '.join(changed)}. "
            "Give another --run, or remove the stage's folder to do it again."
        )


def check_learning_rates(folder: Path, done: Mapping[str, Any], asked: Collection[float]) -> None:
    """Raises `RunError` where a finished fine-tuning is asked for with other learning rates, but for diverged ones."""
    diverged = {result["learning_rate"] for result in done["learning_rates"] if result["validation_loss"] is None}
    noted = {result["learning_rate"] for result in done["learning_rates"]} - diverged
    now = set(asked) - diverged
    if now != noted:
        rates = [", ".join(f"{rate:g}" for rate in sorted(each)) for each in (noted, now)]
        raise RunError(
            f"{folder / DONE}: Expected the learning rates that fine-tuning was done with, {rates[0]}. Received "
            f"{rates[1]}: give another --run, or remove the stage's folder to do it again."
        )


def check_dataset(run: Path, dataset: Dataset) -> None:
    """Raises `RunError` where a run was begun on another dataset; the same one may have moved."""
    for begun in (command.dataset for command in read_commands(run)):
        if begun.sha256 != dataset.sha256:
            raise RunError(
                f"{run / RECORD}: Expected the dataset that the run was begun on, {begun.folder} with the checksum "
                f"{begun.sha256}. Received {dataset.folder} with {dataset.sha256}: give another --run, or evaluate "
                "this one on that dataset with python -m keras_ecg_mae.evaluate."
            )


def made_from(folder: Path, earlier: Path) -> bool:
    """Whether a stage was begun with what now lies in the folder of an earlier one, `pretrain` or `finetune`."""
    return (read_json(folder / SETTINGS) or {}).get(earlier.name) == read_done(earlier)


def expect_made_from(folder: Path, earlier: Path) -> None:
    """Raises `RunError` where not `made_from`: its results are those of another model than the run's present one."""
    if not made_from(folder, earlier):
        raise RunError(
            f"{folder}: Expected results of the model in {earlier}. Received those of another one: the stage "
            f"{earlier.name} was done anew. Remove the folder {folder} and do its stage again."
        )


def pretrained_encoder(config: Config) -> Path | None:
    """The file that fine-tuning starts from; None for random weights. Raises `RunError` where it is missing."""
    name = config.finetuning.encoder
    if name == RANDOM:
        return None
    own = stage_folder("pretrain", config) / AUTOENCODER
    path = own if name == OWN_PRETRAINING else storage_path(name)
    if not path.is_file():
        remedy = "run the stage pretrain first, or name one with" if name == OWN_PRETRAINING else "mend"
        raise RunError(f"{path}: Expected a pretrained encoder. Received no such file: {remedy} --finetune_encoder.")
    return path


def _without(section: Section, *idle: str) -> dict[str, Any]:
    """A section's settings but for those that decide nothing here."""
    return {name: value for name, value in vars(section).items() if name not in idle}


def _result(stage: str, config: Config) -> dict[str, Any] | None:
    return read_done(stage_folder(stage, config))


def _encoder_sha256(config: Config) -> str | None:
    """Of an encoder from elsewhere, so that another file under the same name is not taken for it."""
    if config.finetuning.encoder in (OWN_PRETRAINING, RANDOM):
        return None
    return sha256(str(pretrained_encoder(config)))


def _has_output(folder: Path) -> bool:
    return any(path.name != SETTINGS and not path.name.endswith(PARTIAL) for path in files_under(folder))
