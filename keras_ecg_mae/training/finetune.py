"""Fine-tuning of a pretrained encoder (Sawano et al., 2.4), and training of the baselines."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import keras
import numpy as np
import tensorflow as tf
from absl import logging
from sklearn.metrics import roc_auc_score
from tensorboard.plugins.hparams import api as hparams

from keras_ecg_mae.config import Config
from keras_ecg_mae.dataset import (
    Draws,
    Manifest,
    Portion,
    evaluation_batches,
    labelled_patients,
    steps_per_epoch,
    training_batches,
)
from keras_ecg_mae.errors import DatasetError, DivergedError, RunError
from keras_ecg_mae.files import file_errors, local_copy
from keras_ecg_mae.models.autoencoder import MaskedAutoencoder
from keras_ecg_mae.models.build import ARCHITECTURES, build_classifier, load_pretrained_encoder
from keras_ecg_mae.models.classifier import Classifier
from keras_ecg_mae.models.cnn import CnnClassifier
from keras_ecg_mae.runs.folder import mark_done, read_done
from keras_ecg_mae.training.best_weights import BestWeights
from keras_ecg_mae.training.distribution import check_batch, is_chief, make_strategy
from keras_ecg_mae.training.loop import Trainer
from keras_ecg_mae.training.metrics_log import MetricsLog
from keras_ecg_mae.training.optimizers import AdamW, WarmupCosine, scaled_rate
from keras_ecg_mae.training.published import load_published
from keras_ecg_mae.training.record import note_training_data
from keras_ecg_mae.training.steps import Batch
from keras_ecg_mae.training.weight_rules import weight_rules

CLASSIFIER = "classifier.keras"
BEST_BY = "validation_loss"
KERAS_FILE = ".keras"
# He et al. 2022 as their fine-tuning was run, which their table 9 does not say.
MAE_HEAD_DEVIATION, MAE_SMALLEST_RATE = 2e-5, 1e-6

# Labels, probabilities and patient keys, `(recordings,)` -> PNG files by name.
Draw = Callable[[np.ndarray, np.ndarray, np.ndarray], dict[str, bytes]]


@dataclass(frozen=True)
class Trial:
    """One training of the search over learning rates.

    Attributes:
        learning_rate: constant, or the peak.
        epochs: at most.
        patience: epochs without a lower validation loss before it is ended.
    """

    learning_rate: float
    epochs: int
    patience: int


def trials(config: Config) -> list[Trial]:
    """The trainings that `--finetune_recipe` asks for.

    `paper`: one at each initial rate of Sawano et al., 2.4; the patience and that it is constant are ours. `mae`: one,
    to its end, since its cosine is at its smallest only there.
    """
    settings, mae = config.finetuning, config.mae_finetuning
    if settings.recipe == "mae":
        return [Trial(scaled_rate(mae.base_learning_rate, settings.batch_size), mae.epochs, mae.epochs)]
    return [Trial(rate, settings.epochs, settings.patience) for rate in settings.learning_rates]


def finetune(
    config: Config,
    manifest: Manifest,
    folder: Path,
    encoder: Path | None,
    draw: Draw | None = None,
    callbacks: Sequence[keras.callbacks.Callback] = (),
) -> dict[str, Any]:
    """Fine-tunes at every learning rate and keeps the weights of the lowest validation loss over all.

    A rate whose loss is not finite in some step has lost; it is listed with the loss None, and the search goes on.

    Args:
        config: the settings.
        manifest: the dataset.
        folder: for `classifier.keras`, and one folder a learning rate with its log, checkpoints and best weights.
        encoder: a pretrained `autoencoder.keras`, weights in the published naming, or None for random weights.
        draw: draws figures of the validation recordings for TensorBoard whenever an epoch is the best so far.
        callbacks: Keras callbacks, the same for every learning rate.

    Returns:
        What `done.json` holds: the learning rate and epoch that won, its validation loss, each rate's, and what was
        learnt from (`training_data.TrainingData`). The other workers' holds no training data.

    Raises:
        DatasetError: training or validation split without both labels. RunError: the pretrained encoder is of another
            shape or normalisation, or every learning rate diverged.
    """
    check_labels(manifest)
    fraction = config.finetuning.label_fraction
    if fraction < 1:
        for split in ("train", "validation"):
            used = labelled_patients(manifest, fraction, config.training.seed, split)
            logging.info(
                "%s: %d labelled recordings, %d of them positive, of %d patients.",
                split,
                used.recordings,
                used.positives,
                len(used.keys),
            )
    strategy = make_strategy(config.training.strategy)
    check_batch("finetune_batch_size", config.finetuning.batch_size, strategy, config.training.accumulation)
    results = []
    for trial in trials(config):
        trial_folder = folder / f"{trial.learning_rate:g}"
        results.append(
            read_done(trial_folder) or _run(trial, config, manifest, trial_folder, encoder, strategy, draw, callbacks)
        )
    finite = [result for result in results if result["validation_loss"] is not None]
    if not finite:
        rates = ", ".join(f"{result['learning_rate']:g}" for result in results)
        raise RunError(
            f"{folder}: Expected a learning rate at which the loss stays finite. Received none: {rates} diverged. Try "
            "lower ones, or float32."
        )
    best = min(finite, key=lambda result: result["validation_loss"])
    done = {**best, "learning_rates": results}
    if is_chief(strategy):
        with tf.device("CPU"):
            # In float32, whatever was trained in: evaluation and serving then compute the same on every device.
            model = _build(config, precision="float32")
            trial_folder = folder / f"{best['learning_rate']:g}"
            with local_copy(BestWeights(trial_folder, BEST_BY).path(best["epoch"])) as file:
                model.load_weights(file)
            with file_errors(folder / CLASSIFIER, "write"):
                model.save(folder / CLASSIFIER)
        done |= note_training_data(
            config,
            manifest,
            folder,
            ("train", "validation"),
            labelled=True,
            label_fraction=fraction,
            initial_weights=encoder,
        )
        mark_done(folder, done)
    return done


def check_labels(manifest: Manifest) -> None:
    """Raises `DatasetError` where the training or the validation split has not both labels."""
    for split in ("train", "validation"):
        labelled, positive = manifest.count(split, labelled=True), manifest.positives(split)
        if not 0 < positive < labelled:
            raise DatasetError(
                f"{manifest.path}: Expected recordings with and without {manifest.label_name or 'a label'} "
                f"in the split {split}. Received {positive} positive of {labelled} labelled recordings."
            )


def _build(config: Config, precision: str) -> Classifier | CnnClassifier:
    """The architecture that the settings name, with fresh weights."""
    settings = config.model
    if settings.architecture == "cnn":
        return CnnClassifier(normalization=settings.normalization, name="classifier", dtype=precision)
    model = build_classifier(
        ARCHITECTURES[settings.size].encoder,
        normalization=settings.normalization,
        pooling=settings.pooling,
        drop_path=_drop_path(config),
        **({"head_deviation": MAE_HEAD_DEVIATION} if config.finetuning.recipe == "mae" else {}),
        dtype=precision,
    )
    model.encoder.trainable = config.finetuning.trained == "all"
    model.norm.trainable = config.finetuning.trained != "head"
    return model


def _drop_path(config: Config) -> float:
    """A frozen encoder is used as it will be used later: whole."""
    by_recipe = config.finetuning.recipe == "mae" and config.finetuning.trained == "all"
    return config.mae_finetuning.drop_path if by_recipe else 0.0


def _load_encoder(model: Classifier, path: Path, transfer: Literal["encoder", "blocks"]) -> None:
    if path.suffix != KERAS_FILE:
        load_published(path, model, transfer)
        return
    try:
        load_pretrained_encoder(model, load_autoencoder(path))
    except ValueError as error:
        raise RunError(f"{path}: {error}") from error


def load_autoencoder(path: Path) -> MaskedAutoencoder:
    """Reads an `autoencoder.keras`. Raises `RunError` where it is none."""
    try:
        with local_copy(path) as file:
            model = keras.models.load_model(file, compile=False)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunError(f"{path}: Expected an autoencoder.keras that pretraining saved. Received: {error}") from error
    if not isinstance(model, MaskedAutoencoder):
        raise RunError(f"{path}: Expected a MaskedAutoencoder. Received {type(model).__name__}.")
    return model


def _run(
    trial: Trial,
    config: Config,
    manifest: Manifest,
    folder: Path,
    encoder: Path | None,
    strategy: tf.distribute.Strategy,
    draw: Draw | None,
    callbacks: Sequence[keras.callbacks.Callback],
) -> dict[str, Any]:
    settings, mae = config.finetuning, config.mae_finetuning
    chief = is_chief(strategy)
    seed, fraction = config.training.seed, settings.label_fraction
    steps = steps_per_epoch(manifest, settings.batch_size, labelled=True, label_fraction=fraction, seed=seed)
    drop_path = _drop_path(config)
    keras.utils.set_random_seed(seed)
    with strategy.scope():
        model = _build(config, config.training.precision)
        if isinstance(model, Classifier):
            model.encoder.rematerialize = config.training.rematerialize
        if encoder is not None:
            _load_encoder(model, encoder, settings.transfer)
        if settings.recipe == "mae":
            warmup = round(mae.warmup_epochs * steps)
            schedule = WarmupCosine(trial.learning_rate, warmup, trial.epochs * steps, MAE_SMALLEST_RATE)
            rules = weight_rules(model, mae.layer_decay)
            optimizer = AdamW(schedule, rules, weight_decay=mae.weight_decay, beta_1=0.9, beta_2=0.999)
        else:
            optimizer = keras.optimizers.Adam(trial.learning_rate)

    def losses(batch: Batch) -> tf.Tensor:
        noise = {"path_noise": batch["path_noise"]} if drop_path else {}
        logits = model(batch["ecg"], training=True, **noise)
        return tf.nn.sigmoid_cross_entropy_with_logits(labels=batch["label"], logits=logits)

    def batches_from(portion: Portion) -> tf.data.Dataset:
        return training_batches(
            manifest,
            batch_size=settings.batch_size,
            epochs=trial.epochs,
            seed=seed,
            labelled=True,
            label_fraction=fraction,
            draws=Draws(time_shift=settings.time_shift, path_noise=model.encoder.depth if drop_path else 0),
            portion=portion,
        )

    held_out = evaluation_batches(
        manifest,
        ["validation"],
        batch_size=config.evaluation.evaluate_batch_size,
        labelled=True,
        patients=labelled_patients(manifest, fraction, seed, "validation") if fraction < 1 else None,
    )
    predict = tf.function(lambda ecg: model(ecg, training=False), reduce_retracing=True)

    def validate(epoch: int, log: MetricsLog) -> dict[str, float]:
        parts = [(predict(batch["ecg"]), batch["label"], batch["patient_key"]) for batch in held_out]
        logits, labels, patients = (np.concatenate(column) for column in zip(*parts, strict=True))
        cross_entropy = np.logaddexp(0, np.where(labels == 1, -logits, logits))
        loss = float(np.mean(cross_entropy, dtype=np.float64))
        if not np.isfinite(loss):
            raise DivergedError(f"{folder}: Expected a finite validation loss. Received {loss} after epoch {epoch}.")
        if draw and chief and loss < best.best(log.rows)[1]:
            for name, png in draw(labels, np.exp(-np.logaddexp(0, -logits)), patients).items():
                log.picture(f"validation/{name}", (epoch + 1) * steps, png)
        return {BEST_BY: loss, "validation_auroc": float(roc_auc_score(labels, logits))}

    best = BestWeights(folder, BEST_BY, chief)
    trainer = Trainer(
        title=f"finetune {trial.learning_rate:g}",
        model=model,
        optimizer=optimizer,
        losses=losses,
        inputs=("ecg", "label", *(["path_noise"] if drop_path else [])),
        batches_from=batches_from,
        validate=validate,
        best=best,
        patience=trial.patience,
        strategy=strategy,
        epochs=trial.epochs,
        steps_per_epoch=steps,
        batch_size=settings.batch_size,
        folder=folder,
        settings=config.training,
        callbacks=callbacks,
    )
    try:
        log = trainer.train()
    except DivergedError as error:
        logging.warning("Learning rate %g diverged. %s", trial.learning_rate, error)
        result = {"learning_rate": trial.learning_rate, "epoch": None, "validation_loss": None, "diverged": str(error)}
        if chief:
            mark_done(folder, result)
        return result
    epoch, loss = best.best(log.rows)
    result = {"learning_rate": trial.learning_rate, "epoch": epoch, "validation_loss": loss, "epochs": len(log.rows)}
    if chief:
        with tf.summary.create_file_writer(str(folder / "tensorboard")).as_default(step=0):
            hparams.hparams(
                {"learning_rate": trial.learning_rate, "batch_size": settings.batch_size, "recipe": settings.recipe}
            )
            tf.summary.scalar("validation/best_loss", loss)
        mark_done(folder, result)
    return result
