"""Fine-tuning of a pretrained encoder (Sawano et al., Methods, 'Fine-tuning')."""

import os
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from sklearn.metrics import roc_auc_score
from tensorboard.plugins.hparams import api as hparams

from keras_ecg_mae.config import Config
from keras_ecg_mae.dataset import Manifest, evaluation_batches, steps_per_epoch, training_batches
from keras_ecg_mae.errors import DatasetError, RunError
from keras_ecg_mae.models.autoencoder import MaskedAutoencoder
from keras_ecg_mae.models.build import ARCHITECTURES, build_classifier, load_pretrained_encoder
from keras_ecg_mae.models.classifier import Classifier
from keras_ecg_mae.run_folder import mark_done, read_done
from keras_ecg_mae.training.distribution import check_batch, make_strategy
from keras_ecg_mae.training.loop import Batch, train, without_autoshard
from keras_ecg_mae.training.metrics_log import MetricsLog

CLASSIFIER = "classifier.keras"
BEST = "best.weights.h5"


def finetune(config: Config, manifest: Manifest, folder: Path, autoencoder: Path | None) -> dict[str, Any]:
    """Fine-tunes at every learning rate and keeps the weights of the lowest validation loss over all.

    Args:
        config: the settings.
        manifest: the dataset.
        folder: for `classifier.keras`, and one folder a learning rate with its log, checkpoints and best weights.
        autoencoder: the pretrained `autoencoder.keras`, or None for random weights.

    Returns:
        What `done.json` holds: the learning rate and epoch that won, its validation loss, and each rate's.

    Raises:
        DatasetError: training or validation split without both labels. RunError: the pretrained encoder is of another
            shape or normalisation, or the loss is not finite.
    """
    check_labels(manifest)
    strategy = make_strategy(config.training.strategy)
    check_batch("finetune_batch_size", config.finetuning.batch_size, strategy)
    results = []
    for rate in config.finetuning.learning_rates:
        rate_folder = folder / f"{rate:g}"
        result = read_done(rate_folder) or _finetune_at(rate, config, manifest, rate_folder, autoencoder, strategy)
        results.append(result)
    best = min(results, key=lambda result: result["validation_loss"])
    with tf.device("CPU"):
        # In float32, whatever was trained in: evaluation and serving then compute the same on every device.
        model = _classifier(config, None, precision="float32")
        model.load_weights(folder / f"{best['learning_rate']:g}" / BEST)
        model.save(folder / CLASSIFIER)
    done = {**best, "learning_rates": results}
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


def _classifier(config: Config, autoencoder: Path | None, precision: str) -> Classifier:
    settings = config.model
    model = build_classifier(
        ARCHITECTURES[settings.size].encoder,
        normalization=settings.normalization,
        pooling=settings.pooling,
        drop_path=config.finetuning.drop_path,
        dtype=precision,
    )
    if autoencoder is not None:
        pretrained = load_autoencoder(autoencoder)
        try:
            load_pretrained_encoder(model, pretrained)
        except ValueError as error:
            raise RunError(f"{autoencoder}: {error}") from error
    return model


def load_autoencoder(path: Path) -> MaskedAutoencoder:
    """Reads an `autoencoder.keras`. Raises `RunError` where it is none."""
    try:
        model = keras.models.load_model(path, compile=False)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunError(f"{path}: Expected an autoencoder.keras that pretraining saved. Received: {error}") from error
    if not isinstance(model, MaskedAutoencoder):
        raise RunError(f"{path}: Expected a MaskedAutoencoder. Received {type(model).__name__}.")
    return model


def _finetune_at(
    rate: float,
    config: Config,
    manifest: Manifest,
    folder: Path,
    autoencoder: Path | None,
    strategy: tf.distribute.Strategy,
) -> dict[str, Any]:
    settings = config.finetuning
    folder.mkdir(parents=True, exist_ok=True)
    keras.utils.set_random_seed(config.training.seed)
    with strategy.scope():
        model = _classifier(config, autoencoder, config.training.precision)
        optimizer = keras.optimizers.Adam(rate)

    def losses(batch: Batch) -> tf.Tensor:
        logits = model(batch["ecg"], training=True)
        return tf.nn.sigmoid_cross_entropy_with_logits(labels=batch["label"], logits=logits)

    def batches_from(epoch: int) -> tf.data.Dataset:
        batches = training_batches(
            manifest,
            batch_size=settings.batch_size,
            epochs=settings.epochs,
            first_epoch=epoch,
            seed=config.training.seed,
            labelled=True,
            time_shift=settings.time_shift,
        )
        return without_autoshard(batches, ("ecg", "label"))

    held_out = evaluation_batches(
        manifest, ["validation"], batch_size=config.evaluation.evaluate_batch_size, labelled=True
    )
    predict = tf.function(lambda ecg: model(ecg, training=False), reduce_retracing=True)

    def epoch_end(epoch: int, log: MetricsLog, scalars: dict[str, float]) -> bool:
        parts = [(predict(batch["ecg"]), batch["label"]) for batch in held_out]
        logits, labels = (np.concatenate(column) for column in zip(*parts, strict=True))
        cross_entropy = np.logaddexp(0, np.where(labels == 1, -logits, logits))
        scalars["validation_loss"] = float(np.mean(cross_entropy, dtype=np.float64))
        scalars["validation_auroc"] = float(roc_auc_score(labels, logits))
        best_epoch, best_loss = _best(log.rows)
        if scalars["validation_loss"] < best_loss:
            _save_weights(model, folder / BEST)
            best_epoch = epoch
        return epoch - best_epoch >= settings.patience

    log = train(
        title=f"finetune {rate:g}",
        model=model,
        optimizer=optimizer,
        losses=losses,
        batches_from=batches_from,
        epoch_end=epoch_end,
        strategy=strategy,
        epochs=settings.epochs,
        steps_per_epoch=steps_per_epoch(manifest, settings.batch_size, labelled=True),
        batch_size=settings.batch_size,
        folder=folder,
        checkpoint_minutes=config.training.checkpoint_minutes,
    )
    epoch, loss = _best(log.rows)
    result = {"learning_rate": rate, "epoch": epoch, "validation_loss": loss, "epochs": len(log.rows)}
    with tf.summary.create_file_writer(str(folder / "tensorboard")).as_default(step=0):
        hparams.hparams({"learning_rate": rate, "batch_size": settings.batch_size})
        tf.summary.scalar("best_validation_loss", loss)
    mark_done(folder, result)
    return result


def _best(rows: list[dict[str, float]]) -> tuple[int, float]:
    """Epoch and value of the lowest validation loss so far; before the first epoch, (-1, infinity)."""
    if not rows:
        return -1, float("inf")
    best = min(rows, key=lambda row: row["validation_loss"])
    return int(best["epoch"]), best["validation_loss"]


def _save_weights(model: Classifier, path: Path) -> None:
    partial = path.with_name(f"partial.{BEST}")  # Keras insists on the ending
    model.save_weights(partial)
    os.replace(partial, path)
