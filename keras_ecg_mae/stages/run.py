"""Beginning a run, and doing its stages one by one."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import tensorflow as tf
from absl import logging

from keras_ecg_mae.config import OWN_PRETRAINING, TRAINED_STAGES, Config
from keras_ecg_mae.dataset import Manifest, labelled_patients, read_manifest, steps_per_epoch, verify
from keras_ecg_mae.errors import DatasetError, RunError
from keras_ecg_mae.evaluation.evaluate import read_results
from keras_ecg_mae.evaluation.reconstruction import ReconstructionErrors
from keras_ecg_mae.evaluation.scoring import Results, validation_figures
from keras_ecg_mae.files import storage_path, write_whole
from keras_ecg_mae.flags import flag_lines
from keras_ecg_mae.runs.fingerprint import (
    check_dataset,
    check_fingerprint,
    check_learning_rates,
    model_stage,
    open_stage,
    pretrained_encoder,
    stage_fingerprint,
    stage_folder,
)
from keras_ecg_mae.runs.folder import mark_done, read_done
from keras_ecg_mae.runs.record import Dataset, record_command, this_command
from keras_ecg_mae.runs.training_data import TrainingData, describe_label, expect_training_data
from keras_ecg_mae.stages.evaluation import evaluate_model, load_classifier, own_results
from keras_ecg_mae.stages.export import export_model
from keras_ecg_mae.training.distribution import reason
from keras_ecg_mae.training.finetune import check_labels, finetune, learning_rates
from keras_ecg_mae.training.pretrain import pretrain


def begin_run(config: Config, manifest: Manifest, chief: bool = True) -> None:
    """Looks for what would make a later stage fail, and records the command in `run.json` and `flags.txt`.

    A command that is refused here leaves the run folder as it was. Of several workers the chief alone records.

    Raises:
        DatasetError: the dataset cannot serve a stage that is asked for.
        RunError: the run was begun on another dataset, a stage with other settings, or the encoder to fine-tune is
            missing.
    """
    run, stages = storage_path(config.training.run), config.training.stages
    dataset = Dataset(manifest.folder, manifest.digest, manifest.count())
    check_dataset(run, dataset)
    if "pretrain" in stages:
        steps_per_epoch(manifest, config.pretraining.batch_size, labelled=False, splits=config.pretraining.splits)
    if "finetune" in stages:
        check_labels(manifest)
        settings, seed = config.finetuning, config.training.seed
        steps_per_epoch(manifest, settings.batch_size, labelled=True, label_fraction=settings.label_fraction, seed=seed)
        if settings.label_fraction < 1:
            labelled_patients(manifest, settings.label_fraction, seed, "validation")
        if settings.encoder != OWN_PRETRAINING:
            pretrained_encoder(config)
    if "evaluate" in stages and not manifest.count("test", labelled=True):
        raise DatasetError(f"{manifest.path}: Expected labelled recordings in the split test. Received none.")
    for stage in stages:
        check_fingerprint(stage_folder(stage, config), stage_fingerprint(stage, config, manifest.digest))
        if _finished(stage, config) is None:
            break  # its result is among what decides the next one
    if not chief:
        return
    devices = [device.name for device in tf.config.list_physical_devices()]
    title, column = config.training.title, config.training.paper_column
    command = this_command(stages=stages, title=title, paper_column=column, devices=devices, dataset=dataset)
    record_command(run, command)
    write_whole(run / "flags.txt", flag_lines(config))


def run_stage(stage: str, config: Config, manifest: Manifest, chief: bool = True) -> dict[str, Any]:
    """Does a stage, or reads what it left when it was done before. Returns what its `done.json` holds.

    Raises:
        RunError: an earlier stage's result is missing, the stage was begun with other settings, the dataset is not the
            one that the model to evaluate or export was trained on, or TensorFlow failed, as for want of memory.
        DatasetError: a shard was damaged, or removed, while it was in use.
        PreemptedError: the process was asked to end, or another worker has gone; the same command goes on.
    """
    folder = stage_folder(stage, config)
    if stage not in TRAINED_STAGES:
        _expect_own(trained_on(stage, config), manifest)
    if chief:
        open_stage(folder, stage_fingerprint(stage, config, manifest.digest))
    done = _finished(stage, config)
    if done is not None and stage == "export" and not storage_path(done["saved_model"]).exists():
        logging.info("%s was done before, and its version is gone: once more.", stage)
        done = None
    if done is not None:
        logging.info("%s was done before: %s.", stage, folder)
        return done
    logging.info("%s begins: %s.", stage, folder)
    with _failures_named(folder, manifest):
        return _STAGES[stage](config, manifest, folder)


def _finished(stage: str, config: Config) -> dict[str, Any] | None:
    """The result of a stage that is done. Raises `RunError` where a fine-tuning was done at other learning rates."""
    folder = stage_folder(stage, config)
    done = read_done(folder)
    if done is not None and stage == "finetune":
        check_learning_rates(folder, done, learning_rates(config))
    return done


@contextmanager
def _failures_named(folder: Path, manifest: Manifest) -> Iterator[None]:
    """Around what computes: a failure of TensorFlow names the damaged shard, where one is the reason."""
    try:
        yield
    except tf.errors.OpError as error:
        verify(manifest)
        remedy = ""
        if isinstance(error, tf.errors.ResourceExhaustedError):
            remedy = " For less memory, raise --accumulation or lower the batch size."
        raise RunError(f"{folder}: Expected to compute. Received: {reason(error)}.{remedy}") from error


def trained_on(stage: str, config: Config) -> TrainingData:
    """What the model that is evaluated or exported was trained on. Raises `RunError` where it is not trained yet."""
    maker = model_stage(stage, config)
    return expect_training_data(stage_folder(maker, config), maker)


def _expect_own(trained: TrainingData, manifest: Manifest) -> None:
    """Raises `RunError` where a dataset is not the one that a run was trained on; it may have moved."""
    own = trained.dataset
    if manifest.digest != own.sha256:
        label = describe_label(manifest.label_name, manifest.lvef_threshold)
        raise RunError(
            f"{manifest.path}: Expected the dataset that the run {trained.run} was trained on, {own.folder} with the "
            f"checksum {own.sha256} (label: {trained.label}). Received another one, with {manifest.digest} (label: "
            f"{label})."
        )


def own_dataset(stage: str, config: Config) -> Manifest:
    """The dataset that the model to evaluate or export was trained on: `--dataset`, or without it where it lay then.

    Raises:
        DatasetError: it does not lie there. RunError: the model is not trained yet, or another dataset lies there now.
    """
    if config.training.dataset:
        return read_manifest(config.training.dataset)
    trained = trained_on(stage, config)
    manifest = read_manifest(trained.dataset.folder)
    _expect_own(trained, manifest)
    return manifest


def _pretrain(config: Config, manifest: Manifest, folder: Path) -> dict[str, Any]:
    return pretrain(config, manifest, folder, measure=ReconstructionErrors())


def _finetune(config: Config, manifest: Manifest, folder: Path) -> dict[str, Any]:
    draw = partial(validation_figures, confidence=config.evaluation.confidence)
    return finetune(config, manifest, folder, pretrained_encoder(config), draw)


def _evaluate(config: Config, manifest: Manifest, folder: Path) -> dict[str, Any]:
    results = evaluate_model(load_classifier(config), config, manifest, folder, None)
    done = {"threshold": results.threshold}
    mark_done(folder, done)
    return done


_STAGES = {"pretrain": _pretrain, "finetune": _finetune, "evaluate": _evaluate, "export": export_model}


def evaluate_dataset(config: Config, manifest: Manifest) -> tuple[Path, Results]:
    """Evaluates a run's classifier on its own dataset (the stage `evaluate`), or on another one with the same label.

    Raises:
        RunError: the dataset has another label, or as `run_stage`. DatasetError: as `run_stage`.
    """
    folder = stage_folder("evaluate", config)
    if manifest.digest == trained_on("evaluate", config).dataset.sha256:
        run_stage("evaluate", config, manifest)
        return folder, read_results(folder)
    threshold = own_results(config).threshold
    # Two datasets may have folders of one name.
    folder = folder.with_name(f"{folder.name}-{Path(manifest.folder).name}-{manifest.digest[:8]}")
    with _failures_named(folder, manifest):
        return folder, evaluate_model(load_classifier(config), config, manifest, folder, threshold)
