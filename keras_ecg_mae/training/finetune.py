"""Fine-tuning of a pretrained encoder (Sawano et al., 2.4), and training of the baselines."""

from collections.abc import Callable, Sequence
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
from keras_ecg_mae.files import local_copy
from keras_ecg_mae.models.autoencoder import MaskedAutoencoder
from keras_ecg_mae.models.build import ARCHITECTURES, build_classifier, load_pretrained_encoder
from keras_ecg_mae.models.classifier import Classifier
from keras_ecg_mae.models.cnn import CnnClassifier
from keras_ecg_mae.runs.folder import mark_done, read_done
from keras_ecg_mae.training.checkpoints import best_weights, save_model
from keras_ecg_mae.training.distribution import check_batch, is_chief, make_strategy, peer_errors
from keras_ecg_mae.training.log import MetricsLog, tensorboard_writer
from keras_ecg_mae.training.loop import Trainer
from keras_ecg_mae.training.optimizers import AdamW, WarmupCosine, scaled_rate
from keras_ecg_mae.training.steps import Batch
from keras_ecg_mae.training.task import Task, load_published, note_training_data
from keras_ecg_mae.training.weight_rules import weight_rules

CLASSIFIER = "classifier.keras"
# He et al. 2022 as their fine-tuning was run, which their table 9 does not say.
MAE_HEAD_DEVIATION, MAE_SMALLEST_RATE = 2e-5, 1e-6

# Labels, probabilities and patient keys, `(recordings,)` -> PNG files by name.
Draw = Callable[[np.ndarray, np.ndarray, np.ndarray], dict[str, bytes]]


def learning_rates(config: Config) -> tuple[float, ...]:
    """Those to try: in `paper` the constant ones of Sawano et al., 2.4, in `mae` the peak of the only cosine."""
    if config.finetuning.recipe == "paper":
        return config.finetuning.learning_rates
    return (scaled_rate(config.mae_finetuning.base_learning_rate, config.finetuning.batch_size),)


class Finetuning(Task):
    """Learning a label from labelled recordings, at one learning rate: constant, or the peak. See `finetune`."""

    best_by = "validation_loss"
    model: Classifier | CnnClassifier

    def __init__(
        self,
        learning_rate: float,
        config: Config,
        manifest: Manifest,
        folder: Path,
        encoder: Path | None,
        strategy: tf.distribute.Strategy,
        draw: Draw | None,
    ):
        settings, seed = config.finetuning, config.training.seed
        self._config, self._settings, self._manifest = config, settings, manifest
        self._draw = draw if is_chief(strategy) else None
        self._drop_path = _drop_path(config)
        self.learning_rate, self.batch_size = learning_rate, settings.batch_size
        self.title, self.folder = f"finetune {learning_rate:g}", folder
        # The patience of `paper` is ours. A cosine is at its smallest only at its end.
        self.epochs, self.patience = settings.epochs, settings.patience
        if settings.recipe == "mae":
            self.epochs = self.patience = config.mae_finetuning.epochs
        self.inputs = ("ecg", "label", "path_noise") if self._drop_path else ("ecg", "label")
        fraction = settings.label_fraction
        self.steps_per_epoch = steps_per_epoch(
            manifest, self.batch_size, labelled=True, label_fraction=fraction, seed=seed
        )
        keras.utils.set_random_seed(seed)
        with strategy.scope():
            self.model = _build(config, config.training.precision)
            if isinstance(self.model, Classifier):
                self.model.encoder.rematerialize = config.training.rematerialize
            if encoder is not None:
                _load_encoder(self.model, encoder, settings.transfer)
            self.optimizer = self._make_optimizer()
        self._held_out = evaluation_batches(
            manifest,
            ["validation"],
            batch_size=config.evaluation.evaluate_batch_size,
            labelled=True,
            patients=labelled_patients(manifest, fraction, seed, "validation") if fraction < 1 else None,
        )
        self._predict = tf.function(lambda ecg: self.model(ecg, training=False), reduce_retracing=True)

    def _make_optimizer(self) -> keras.optimizers.Optimizer:
        if self._settings.recipe == "paper":
            return keras.optimizers.Adam(self.learning_rate)
        mae = self._config.mae_finetuning
        warmup, total = round(mae.warmup_epochs * self.steps_per_epoch), self.epochs * self.steps_per_epoch
        schedule = WarmupCosine(self.learning_rate, warmup, total, MAE_SMALLEST_RATE)
        rules = weight_rules(self.model, mae.layer_decay)
        return AdamW(schedule, rules, weight_decay=mae.weight_decay, beta_1=0.9, beta_2=0.999)

    def losses(self, batch: Batch) -> tf.Tensor:
        noise = {"path_noise": batch["path_noise"]} if self._drop_path else {}
        logits = self.model(batch["ecg"], training=True, **noise)
        return tf.nn.sigmoid_cross_entropy_with_logits(labels=batch["label"], logits=logits)

    def batches(self, portion: Portion) -> tf.data.Dataset:
        return training_batches(
            self._manifest,
            batch_size=self.batch_size,
            epochs=self.epochs,
            seed=self._config.training.seed,
            labelled=True,
            label_fraction=self._settings.label_fraction,
            draws=Draws(self._settings.time_shift, path_noise=self.model.encoder.depth if self._drop_path else 0),
            portion=portion,
        )

    def validate(self, epoch: int, log: MetricsLog) -> dict[str, float]:
        parts = [(self._predict(batch["ecg"]), batch["label"], batch["patient_key"]) for batch in self._held_out]
        logits, labels, patients = (np.concatenate(column) for column in zip(*parts, strict=True))
        cross_entropy = np.logaddexp(0, np.where(labels == 1, -logits, logits))
        loss = float(np.mean(cross_entropy, dtype=np.float64))
        if not np.isfinite(loss):
            raise DivergedError(
                f"{self.folder}: Expected a finite validation loss. Received {loss} after epoch {epoch}."
            )
        if self._draw and loss < log.best(self.best_by)[1]:
            for name, png in self._draw(labels, np.exp(-np.logaddexp(0, -logits)), patients).items():
                log.picture(f"validation/{name}", (epoch + 1) * self.steps_per_epoch, png)
        return {self.best_by: loss, "validation_auroc": float(roc_auc_score(labels, logits))}

    def show_hyperparameters(self, best_loss: float | None) -> None:
        """For TensorBoard's table of trainings; one that diverged, without a loss, is not in it."""
        if best_loss is None:
            return
        writer, written = tensorboard_writer(self.folder)
        with writer.as_default(step=0):
            hparams.hparams(
                {"learning_rate": self.learning_rate, "batch_size": self.batch_size, "recipe": self._settings.recipe}
            )
            tf.summary.scalar("validation/best_loss", best_loss)
        writer.close()
        written()


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
        config, manifest: of the run.
        folder: for `classifier.keras`, and one folder a learning rate with its log, checkpoints and best weights.
        encoder: a pretrained `autoencoder.keras`, weights in the published naming, or None for random weights.
        draw: draws figures of the validation recordings for TensorBoard whenever an epoch is the best so far.
        callbacks: Keras callbacks, the same for every learning rate.

    Returns:
        What `done.json` holds: the learning rate and epoch that won, its validation loss, each rate's, and what was
        learnt from (`training_data.TrainingData`). The other workers' holds no training data.

    Raises:
        DatasetError: training or validation split without both labels. RunError: the pretrained encoder is of another
            shape or normalisation, or every learning rate diverged. PreemptedError: the process was asked to end, or
            another worker has gone.
    """
    check_labels(manifest)
    settings = config.finetuning
    _log_labels(config, manifest)
    strategy = make_strategy(config.training.strategy)
    check_batch("finetune_batch_size", settings.batch_size, strategy, config.training.accumulation)
    results = []
    for rate in learning_rates(config):
        result = read_done(folder / f"{rate:g}")
        if result is None:
            with peer_errors(strategy):
                task = Finetuning(rate, config, manifest, folder / f"{rate:g}", encoder, strategy, draw)
                result = _train(task, Trainer(task, strategy, config.training, callbacks))
            if is_chief(strategy):
                task.show_hyperparameters(result["validation_loss"])
                mark_done(task.folder, result)
        results.append(result)
    best = _best(folder, results)
    done = {**best, "learning_rates": results}
    if is_chief(strategy):
        with tf.device("CPU"):
            # In float32, whatever was trained in: evaluation and serving then compute the same on every device.
            model = _build(config, precision="float32")
            with local_copy(best_weights(folder / f"{best['learning_rate']:g}", best["epoch"])) as file:
                model.load_weights(file)
            save_model(model, folder / CLASSIFIER)
        done |= note_training_data(
            config,
            manifest,
            folder,
            ("train", "validation"),
            labelled=True,
            label_fraction=settings.label_fraction,
            initial_weights=encoder,
        )
        mark_done(folder, done)
    return done


def _train(task: Finetuning, trainer: Trainer) -> dict[str, Any]:
    """What `done.json` holds of one learning rate; one that diverged has no loss."""
    rate = task.learning_rate
    try:
        log = trainer.train()
    except DivergedError as error:
        logging.warning("Learning rate %g diverged. %s", rate, error)
        return {"learning_rate": rate, "epoch": None, "validation_loss": None, "diverged": str(error)}
    epoch, loss = log.best(task.best_by)
    return {"learning_rate": rate, "epoch": epoch, "validation_loss": loss, "epochs": len(log.rows)}


def _best(folder: Path, results: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The learning rate of the lowest validation loss. Raises `RunError` where every one diverged."""
    finite = [result for result in results if result["validation_loss"] is not None]
    if not finite:
        rates = ", ".join(f"{result['learning_rate']:g}" for result in results)
        raise RunError(
            f"{folder}: Expected a learning rate at which the loss stays finite. Received none: {rates} diverged. Try "
            "lower ones, or float32."
        )
    return min(finite, key=lambda result: result["validation_loss"])


def _log_labels(config: Config, manifest: Manifest) -> None:
    """Logs how many labels are used where `--finetune_label_fraction` leaves some out."""
    fraction = config.finetuning.label_fraction
    for split in ("train", "validation") if fraction < 1 else ():
        used = labelled_patients(manifest, fraction, config.training.seed, split)
        counts = used.recordings, used.positives, len(used.keys)
        logging.info("%s: %d labelled recordings, %d of them positive, of %d patients.", split, *counts)


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
    if path.suffix != ".keras":
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
