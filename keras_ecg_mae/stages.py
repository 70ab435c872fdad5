"""The stages of a run: each takes what the one before left in the run folder, and leaves its own."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from absl import logging

from keras_ecg_mae.config import OWN_PRETRAINING, RANDOM, STAGES, TRAINED_STAGES, Config, Section
from keras_ecg_mae.dataset import Manifest, evaluation_batches, labelled_patients, steps_per_epoch, verify
from keras_ecg_mae.dataset.storage import sha256
from keras_ecg_mae.errors import DatasetError, PreemptedError, RunError
from keras_ecg_mae.evaluation.evaluate import evaluate, format_results, read_results
from keras_ecg_mae.evaluation.scoring import Results, validation_figures
from keras_ecg_mae.flags import flag_lines
from keras_ecg_mae.models.classifier import Classifier
from keras_ecg_mae.models.cnn import CnnClassifier
from keras_ecg_mae.run_folder import enter_stage, expect_settings, mark_done, read_done, write_whole
from keras_ecg_mae.run_record import Dataset, expect_dataset, read_commands, record_command, this_command
from keras_ecg_mae.serving.description import Decision, Description, read_description
from keras_ecg_mae.serving.export import export_autoencoder, export_classifier
from keras_ecg_mae.serving.gate import expect_same_model, gate_refusals
from keras_ecg_mae.serving.origin import ecgs_to_compare, origin_of
from keras_ecg_mae.serving.prediction import ExportedModel
from keras_ecg_mae.serving.versions import newest_version
from keras_ecg_mae.storage import is_remote, local_copy, storage_path
from keras_ecg_mae.training.distribution import lost_worker, make_strategy, reason, worker_lost
from keras_ecg_mae.training.finetune import CLASSIFIER, check_labels, finetune, load_autoencoder
from keras_ecg_mae.training.pretrain import AUTOENCODER, pretrain

FOLDERS = {"pretrain": "pretrain", "finetune": "finetune", "evaluate": "evaluation", "export": "export"}
AUTOENCODER_EXPORT = "export_autoencoder"  # of the same run, beside its classifier's
# What decides whether a model is exported, and nothing about the export.
_GATE = ("export_minimum_auroc", "export_minimum_institution_auroc", "export_auroc_tolerance", "export_despite_gate")


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
    expect_dataset(run, dataset)
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
    for stage in stages:
        expect_settings(_folder(stage, config), _deciding_settings(stage, config, manifest))
        if read_done(_folder(stage, config)) is None:
            break  # its result is among what decides the next one
    if not chief:
        return
    devices = [device.name for device in tf.config.list_physical_devices()]
    record_command(run, this_command(stages=stages, title=config.training.title, devices=devices, dataset=dataset))
    write_whole(run / "flags.txt", flag_lines(config))


def run_stage(stage: str, config: Config, manifest: Manifest, chief: bool = True) -> dict[str, Any]:
    """Does a stage, or reads what it left when it was done before. Returns what its `done.json` holds.

    Raises:
        RunError: an earlier stage's result is missing, the stage was begun with other settings, or TensorFlow failed,
            as for want of memory.
        DatasetError: a shard was damaged, or removed, while it was in use.
        PreemptedError: the process was asked to end, or another worker has gone; the same command goes on.
    """
    folder = _folder(stage, config)
    if chief:
        enter_stage(folder, _deciding_settings(stage, config, manifest))
    done = read_done(folder)
    if done is not None:
        logging.info("%s was done before: %s.", stage, folder)
        return done
    logging.info("%s begins: %s.", stage, folder)
    try:
        return _STAGES[stage](config, manifest, folder)
    except tf.errors.OpError as error:
        if stage in TRAINED_STAGES and worker_lost(make_strategy(config.training.strategy), error):
            raise PreemptedError(lost_worker(error)) from error
        verify(manifest)  # names the shard, where one is the reason
        remedy = ""
        if isinstance(error, tf.errors.ResourceExhaustedError):
            remedy = " For less memory, raise --accumulation or lower the batch size."
        raise RunError(f"{folder}: Expected to compute. Received: {reason(error)}.{remedy}") from error


def _folder(stage: str, config: Config) -> Path:
    """Where a stage leaves what it makes."""
    of_autoencoder = stage == "export" and config.export.exported == "autoencoder"
    return storage_path(config.training.run) / (AUTOENCODER_EXPORT if of_autoencoder else FOLDERS[stage])


def _deciding_settings(stage: str, config: Config, manifest: Manifest) -> dict[str, Any]:
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
                **_without(config.finetuning, *(["learning_rates", "epochs", "patience"] if by_mae else [])),
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


def _without(section: Section, *idle: str) -> dict[str, Any]:
    """A section's settings but for those that decide nothing here."""
    return {name: value for name, value in vars(section).items() if name not in idle}


def _finetune(config: Config, manifest: Manifest, folder: Path) -> dict[str, Any]:
    draw = partial(validation_figures, confidence=config.evaluation.confidence)
    return finetune(config, manifest, folder, _encoder(config), draw)


def _encoder(config: Config) -> Path | None:
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
    return sha256(str(_encoder(config)))


def evaluate_dataset(config: Config, manifest: Manifest) -> tuple[Path, Results]:
    """Evaluates a run's classifier on its own dataset (the stage `evaluate`), or on another one."""
    run = storage_path(config.training.run)
    if any(command.dataset.sha256 == manifest.digest for command in read_commands(run)):
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
    predict = tf.function(load_classifier(config).probability, reduce_retracing=True)
    return _evaluate_predictions(lambda ecg: np.asarray(predict(tf.constant(ecg))), config, manifest, folder, threshold)


def _evaluate_predictions(
    predict: Callable[[np.ndarray], np.ndarray],
    config: Config,
    manifest: Manifest,
    folder: Path,
    threshold: float | None,
) -> Results:
    batches = evaluation_batches(
        manifest, ["validation", "test"], batch_size=config.evaluation.evaluate_batch_size, labelled=True
    )
    return evaluate(
        predict,
        batches.as_numpy_iterator(),
        folder,
        external_institutions=manifest.external_institutions,
        label_name=manifest.label_name,
        confidence=config.evaluation.confidence,
        threshold=threshold,
    )


def load_classifier(config: Config) -> Classifier | CnnClassifier:
    """The run's fine-tuned classifier. Raises `RunError` where there is none."""
    path = storage_path(config.training.run) / FOLDERS["finetune"] / CLASSIFIER
    if not path.is_file():
        raise RunError(
            f"{path}: Expected a fine-tuned classifier. Received no such file: run the stage finetune first."
        )
    with local_copy(path) as file:
        return keras.models.load_model(file, compile=False)


def _export(config: Config, manifest: Manifest, folder: Path) -> dict[str, Any]:
    settings = config.export
    saved_models = storage_path(settings.saved_models) / settings.name
    incumbent = newest_version(saved_models)
    described = None if incumbent is None else read_description(incumbent)
    if incumbent is not None and described is not None:
        expect_same_model(incumbent, described, settings.exported, manifest.label_name)
    if settings.exported == "autoencoder":
        version = _export_autoencoder(config, manifest, saved_models)
    else:
        version = _export_classifier(config, manifest, saved_models, incumbent, described)
    done = {"saved_model": str(version)}
    mark_done(folder, done)
    return done


def _export_classifier(
    config: Config, manifest: Manifest, saved_models: Path, incumbent: Path | None, described: Description | None
) -> Path:
    run = storage_path(config.training.run)
    classifier, results = load_classifier(config), read_results(run / FOLDERS["evaluate"])
    groups = [asdict(group) for group in results.groups]
    before = _incumbent_groups(config, manifest, incumbent, described) if incumbent and described else []
    refused = gate_refusals(groups, config.export, before)
    if refused and not config.export.export_despite_gate:
        raise RunError(
            f"{saved_models}: Expected a classifier to serve. Received one that the gate refuses: {' '.join(refused)} "
            "--export_despite_gate exports it all the same."
        )
    return export_classifier(
        classifier,
        saved_models,
        decision=Decision(
            label=manifest.label_name,
            threshold=results.threshold,
            threshold_rule=results.threshold_rule,
            confidence=results.confidence,
            evaluation=groups,
            refused=refused,
        ),
        origin=origin_of(config.training.run, run / FOLDERS["finetune"], manifest),
        batch_sizes=config.export.export_batch_sizes,
        ecg_mv=ecgs_to_compare(manifest, labelled=True),
    )


def _export_autoencoder(config: Config, manifest: Manifest, saved_models: Path) -> Path:
    folder = storage_path(config.training.run) / FOLDERS["pretrain"]
    done = read_done(folder)
    if done is None:
        raise RunError(f"{folder}: Expected a pretrained autoencoder. Received none: run the stage pretrain first.")
    return export_autoencoder(
        load_autoencoder(folder / AUTOENCODER),
        saved_models,
        origin=origin_of(config.training.run, folder, manifest),
        validation={name: value for name, value in done.items() if name.startswith("validation_")},
        batch_sizes=config.export.export_batch_sizes,
        ecg_mv=ecgs_to_compare(manifest, labelled=False),
    )


def _incumbent_groups(
    config: Config, manifest: Manifest, incumbent: Path, described: Description
) -> Sequence[Mapping[str, Any]]:
    """What the version served so far does on this dataset's test ECGs: as it says, or where it was tested on others,
    evaluated anew."""
    if described.decision is None:
        return []
    if described.dataset == manifest.digest:
        return described.decision.evaluation
    with TemporaryDirectory() as scratch:
        predict, threshold = ExportedModel(incumbent).probability, described.decision.threshold
        results = _evaluate_predictions(predict, config, manifest, Path(scratch), threshold)
    return [asdict(group) for group in results.groups]


_STAGES = {"pretrain": pretrain, "finetune": _finetune, "evaluate": _evaluate, "export": _export}


def summary(config: Config, manifest: Manifest) -> str:
    """What a run has come to: a short text for the console."""
    run = storage_path(config.training.run)
    done = {stage: read_done(_folder(stage, config)) for stage in STAGES}
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
        if config.export.exported == "classifier":
            next_commands.append(f"python -m keras_ecg_mae.predict --model={exported['saved_model']} FILE...")
    else:
        own = config.finetuning.encoder == OWN_PRETRAINING
        missing = ",".join(stage for stage in STAGES if not done[stage] and (own or stage != "pretrain"))
        # absl reads flag files from disks alone.
        flags = (
            f"--flagfile=<a copy of {run / 'flags.txt'}>" if is_remote(str(run)) else f"--flagfile={run / 'flags.txt'}"
        )
        next_commands.append(f"python -m keras_ecg_mae.train {flags} --stages={missing}")
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
