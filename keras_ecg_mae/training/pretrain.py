"""Masked-autoencoder pretraining (Sawano et al., 2.2; recipe of He et al. 2022, table 8)."""

import math
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from absl import logging

from keras_ecg_mae.config import Config
from keras_ecg_mae.dataset import Draws, Manifest, Portion, evaluation_batches, steps_per_epoch, training_batches
from keras_ecg_mae.files import storage_path, write_whole
from keras_ecg_mae.models.autoencoder import MaskedAutoencoder, reconstruction_errors, reconstruction_loss
from keras_ecg_mae.models.build import ARCHITECTURES, build_autoencoder
from keras_ecg_mae.recordings.ecg_paper import draw_reconstruction, to_png
from keras_ecg_mae.runs.folder import FIGURES, RECONSTRUCTION_ERRORS, mark_done
from keras_ecg_mae.runs.training_data import AUTOENCODER
from keras_ecg_mae.spec import LEADS
from keras_ecg_mae.training.checkpoints import save_model
from keras_ecg_mae.training.distribution import check_batch, is_chief, make_strategy, peer_errors
from keras_ecg_mae.training.log import MetricsLog
from keras_ecg_mae.training.loop import Trainer
from keras_ecg_mae.training.optimizers import OPTIMIZERS, AdamW, WarmupCosine, scaled_rate
from keras_ecg_mae.training.steps import Batch
from keras_ecg_mae.training.task import Task, load_published, note_training_data
from keras_ecg_mae.training.weight_rules import weight_rules

# Sawano et al., figures 3 and 1.
PICTURES = {FIGURES["figure_3"]: LEADS, FIGURES["figure_1"]: ("II", "V5")}
# At most so many, every n-th validation recording, so of every institution: each takes a tenth of a second to measure.
MEASURED_RECORDINGS = 256

# Record ids `(n,)`, recordings and their reconstructions `(n, 12, 5000)` in mV, masks `(n, 240)`; batch after batch
# -> scalars by name, and a table as CSV.
Reconstructed = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]
Measure = Callable[[Iterable[Reconstructed]], tuple[dict[str, float], str]]


class Pretraining(Task):
    """Learning to reconstruct the masked patches of recordings. See `pretrain`.

    Attributes:
        validated_on: the recordings that the errors are measured on, in words.
    """

    inputs = ("ecg", "mask_noise")
    best_by = "validation_error"
    model: MaskedAutoencoder

    def __init__(
        self,
        config: Config,
        manifest: Manifest,
        folder: Path,
        strategy: tf.distribute.Strategy,
        measure: Measure | None = None,
    ):
        self._config, self._settings, self._manifest, self._measure = config, config.pretraining, manifest, measure
        self.title, self.folder, self._chief = "pretrain", folder, is_chief(strategy)
        self.epochs = self.patience = self._settings.epochs
        self.batch_size = self._settings.batch_size
        self.steps_per_epoch = steps_per_epoch(manifest, self.batch_size, labelled=False, splits=self._settings.splits)
        keras.utils.set_random_seed(config.training.seed)
        with strategy.scope():
            self.model = self._make_model()
            self.optimizer = self._make_optimizer()
        self._validation_split = "validation" if manifest.count("validation") else "train"
        self.validated_on = f"{self._validation_split} recordings"
        if self._validation_split in self._settings.splits:
            self.validated_on += ", on which it was trained as well"
        logging.info("pretrain is validated on %s.", self.validated_on)
        self._held_out = evaluation_batches(
            manifest,
            [self._validation_split],
            batch_size=config.evaluation.evaluate_batch_size,
            labelled=False,
            mask_noise_seed=config.training.seed,
        )
        self._errors = tf.function(
            lambda ecg, noise: reconstruction_errors(self.model(ecg, noise, training=False)), reduce_retracing=True
        )
        self._reconstruct = tf.function(self.model.reconstruct, reduce_retracing=True)

    def _make_model(self) -> MaskedAutoencoder:
        settings = self._config.model
        model = build_autoencoder(
            ARCHITECTURES[settings.size],
            normalization=settings.normalization,
            mask_ratio=settings.mask_ratio,
            normalize_target=settings.normalize_target,
            dtype=self._config.training.precision,
        )
        model.encoder.rematerialize = model.decoder.rematerialize = self._config.training.rematerialize
        if self._settings.initial_weights:
            load_published(storage_path(self._settings.initial_weights), model)
        logging.info(
            "%s: %.2f M encoder and %.2f M decoder weights, %d steps an epoch.",
            settings.size,
            model.encoder.count_params() / 1e6,
            model.decoder.count_params() / 1e6,
            self.steps_per_epoch,
        )
        return model

    def _make_optimizer(self) -> AdamW:
        settings = self._settings
        schedule = WarmupCosine(
            scaled_rate(settings.base_learning_rate, settings.batch_size),
            round(settings.warmup_epochs * self.steps_per_epoch),
            settings.epochs * self.steps_per_epoch,
        )
        return OPTIMIZERS[settings.optimizer](
            schedule,
            weight_rules(self.model),
            weight_decay=settings.weight_decay,
            beta_1=settings.beta_1,
            beta_2=settings.beta_2,
        )

    def losses(self, batch: Batch) -> tf.Tensor:
        return reconstruction_loss(self.model(batch["ecg"], batch["mask_noise"], training=True))

    def batches(self, portion: Portion) -> tf.data.Dataset:
        return training_batches(
            self._manifest,
            batch_size=self.batch_size,
            epochs=self.epochs,
            seed=self._config.training.seed,
            labelled=False,
            splits=self._settings.splits,
            draws=Draws(time_shift=self._settings.time_shift, mask_noise=True),
            portion=portion,
        )

    def validate(self, epoch: int, log: MetricsLog) -> dict[str, float]:
        last = epoch + 1 == self.epochs
        if not last and (epoch + 1) % self._settings.validation_epochs:
            return {}
        parts = [self._errors(batch["ecg"], batch["mask_noise"]) for batch in self._held_out]
        measured: dict[str, float] = {}
        if self._chief:
            if self._measure:
                measured, table = self._measure(self._reconstructed())
                write_whole(self.folder / RECONSTRUCTION_ERRORS, table)
            for name, png in reconstruction_pictures(self.model, self._held_out).items():
                write_whole(self.folder / name, png)
                log.picture(Path(name).stem, (epoch + 1) * self.steps_per_epoch, png)
        shares = {name: float(np.mean(np.concatenate([part[name] for part in parts]))) for name in parts[0]}
        return {**{f"validation_{name}": share for name, share in shares.items()}, **measured}

    def _reconstructed(self) -> Iterable[Reconstructed]:
        every = math.ceil(self._manifest.count(self._validation_split) / MEASURED_RECORDINGS)
        batch_size = self._config.evaluation.evaluate_batch_size
        for batch in self._held_out.unbatch().shard(every, 0).batch(batch_size):
            made = self._reconstruct(batch["ecg"], batch["mask_noise"])
            yield batch["record_id"].numpy(), batch["ecg"].numpy(), *(one.numpy() for one in made)


def pretrain(
    config: Config,
    manifest: Manifest,
    folder: Path,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    measure: Measure | None = None,
) -> dict[str, Any]:
    """Pretrains into `folder` and marks it done.

    Leaves `autoencoder.keras` (the last weights), the pictures `PICTURES`, `metrics.csv`, `tensorboard/`,
    `checkpoints/`, `best/` with the weights of the lowest validation error, and what `measure` makes of reconstructed
    validation recordings, as scalars and in `reconstruction.csv`.

    Returns:
        What `done.json` holds: weights of encoder and decoder, steps, the last validation's errors as shares of the
        recordings' variance (`models.autoencoder.reconstruction_errors`), what they are errors on, and what was
        trained on (`training_data.TrainingData`). The other workers' holds no training data.

    Raises:
        DatasetError: fewer recordings than a batch. RunError: the loss is not finite, or the initial weights cannot be
            loaded. PreemptedError: the process was asked to end, or another worker has gone.
    """
    settings = config.pretraining
    strategy = make_strategy(config.training.strategy)
    check_batch("pretrain_batch_size", settings.batch_size, strategy, config.training.accumulation)
    with peer_errors(strategy):
        task = Pretraining(config, manifest, folder, strategy, measure)
        log = Trainer(task, strategy, config.training, callbacks).train()
    result = {
        "encoder_weights": task.model.encoder.count_params(),
        "decoder_weights": task.model.decoder.count_params(),
        "steps": int(log.rows[-1]["step"]),
        **{name: value for row in log.rows for name, value in row.items() if name.startswith("validation_")},
        "validated_on": task.validated_on,
    }
    if is_chief(strategy):
        initial_weights = storage_path(settings.initial_weights) if settings.initial_weights else None
        result |= note_training_data(
            config, manifest, folder, settings.splits, labelled=False, initial_weights=initial_weights
        )
        save_model(task.model, folder / AUTOENCODER)
        mark_done(folder, result)
    return result


def reconstruction_pictures(model: MaskedAutoencoder, batches: tf.data.Dataset) -> dict[str, bytes]:
    """The first recording's original, masked and reconstructed leads on ECG paper, a PNG for each of `PICTURES`."""
    batch = next(iter(batches))
    ecg, noise = batch["ecg"][:1], batch["mask_noise"][:1]
    reconstructed, mask = model.reconstruct(ecg, noise)
    shown = ecg[0].numpy(), np.asarray(reconstructed[0]), np.asarray(mask[0])
    return {name: to_png(draw_reconstruction(*shown, leads=leads)) for name, leads in PICTURES.items()}
