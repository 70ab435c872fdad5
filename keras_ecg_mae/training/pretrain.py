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
from keras_ecg_mae.files import file_errors, storage_path, write_whole
from keras_ecg_mae.models.autoencoder import MaskedAutoencoder, reconstruction_errors, reconstruction_loss
from keras_ecg_mae.models.build import ARCHITECTURES, build_autoencoder
from keras_ecg_mae.recordings.ecg_paper import draw_reconstruction, to_png
from keras_ecg_mae.runs.folder import FIGURES, RECONSTRUCTION_ERRORS, mark_done
from keras_ecg_mae.runs.training_data import AUTOENCODER
from keras_ecg_mae.spec import LEADS
from keras_ecg_mae.training.best_weights import BestWeights
from keras_ecg_mae.training.distribution import check_batch, is_chief, make_strategy
from keras_ecg_mae.training.loop import Trainer
from keras_ecg_mae.training.metrics_log import MetricsLog
from keras_ecg_mae.training.optimizers import OPTIMIZERS, WarmupCosine, scaled_rate
from keras_ecg_mae.training.published import load_published
from keras_ecg_mae.training.record import note_training_data
from keras_ecg_mae.training.steps import Batch
from keras_ecg_mae.training.weight_rules import weight_rules

# Sawano et al., figures 3 and 1.
PICTURES = {FIGURES["figure_3"]: LEADS, FIGURES["figure_1"]: ("II", "V5")}
# At most so many, every n-th validation recording, so of every institution: each takes a tenth of a second to measure.
MEASURED_RECORDINGS = 256

# Record ids `(n,)`, recordings and their reconstructions `(n, 12, 5000)` in mV, masks `(n, 240)`; batch after batch
# -> scalars by name, and a table as CSV.
Reconstructed = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]
Measure = Callable[[Iterable[Reconstructed]], tuple[dict[str, float], str]]


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
            loaded.
    """
    settings, model_settings = config.pretraining, config.model
    strategy = make_strategy(config.training.strategy)
    chief = is_chief(strategy)
    check_batch("pretrain_batch_size", settings.batch_size, strategy, config.training.accumulation)
    steps = steps_per_epoch(manifest, settings.batch_size, labelled=False, splits=settings.splits)
    keras.utils.set_random_seed(config.training.seed)
    with strategy.scope():
        model = build_autoencoder(
            ARCHITECTURES[model_settings.size],
            normalization=model_settings.normalization,
            mask_ratio=model_settings.mask_ratio,
            normalize_target=model_settings.normalize_target,
            dtype=config.training.precision,
        )
        model.encoder.rematerialize = model.decoder.rematerialize = config.training.rematerialize
        if settings.initial_weights:
            load_published(storage_path(settings.initial_weights), model)
        optimizer = OPTIMIZERS[settings.optimizer](
            WarmupCosine(
                scaled_rate(settings.base_learning_rate, settings.batch_size),
                round(settings.warmup_epochs * steps),
                settings.epochs * steps,
            ),
            weight_rules(model),
            weight_decay=settings.weight_decay,
            beta_1=settings.beta_1,
            beta_2=settings.beta_2,
        )

    encoder_weights, decoder_weights = model.encoder.count_params(), model.decoder.count_params()
    logging.info(
        "%s: %.2f M encoder and %.2f M decoder weights, %d steps an epoch.",
        model_settings.size,
        encoder_weights / 1e6,
        decoder_weights / 1e6,
        steps,
    )

    def losses(batch: Batch) -> tf.Tensor:
        return reconstruction_loss(model(batch["ecg"], batch["mask_noise"], training=True))

    def batches_from(portion: Portion) -> tf.data.Dataset:
        return training_batches(
            manifest,
            batch_size=settings.batch_size,
            epochs=settings.epochs,
            seed=config.training.seed,
            labelled=False,
            splits=settings.splits,
            draws=Draws(time_shift=settings.time_shift, mask_noise=True),
            portion=portion,
        )

    validation_split = "validation" if manifest.count("validation") else "train"
    validated_on = f"{validation_split} recordings"
    if validation_split in settings.splits:
        validated_on += ", on which it was trained as well"
    logging.info("pretrain is validated on %s.", validated_on)
    held_out = evaluation_batches(
        manifest,
        [validation_split],
        batch_size=config.evaluation.evaluate_batch_size,
        labelled=False,
        mask_noise_seed=config.training.seed,
    )
    validate = tf.function(
        lambda ecg, noise: reconstruction_errors(model(ecg, noise, training=False)), reduce_retracing=True
    )
    reconstruct = tf.function(model.reconstruct, reduce_retracing=True)

    def reconstructed() -> Iterable[Reconstructed]:
        every = math.ceil(manifest.count(validation_split) / MEASURED_RECORDINGS)
        for batch in held_out.unbatch().shard(every, 0).batch(config.evaluation.evaluate_batch_size):
            made = reconstruct(batch["ecg"], batch["mask_noise"])
            yield batch["record_id"].numpy(), batch["ecg"].numpy(), *(one.numpy() for one in made)

    def validation(epoch: int, log: MetricsLog) -> dict[str, float]:
        last = epoch + 1 == settings.epochs
        if not last and (epoch + 1) % settings.validation_epochs:
            return {}
        errors = [validate(batch["ecg"], batch["mask_noise"]) for batch in held_out]
        measured: dict[str, float] = {}
        if chief:
            if measure:
                measured, table = measure(reconstructed())
                write_whole(folder / RECONSTRUCTION_ERRORS, table)
            for name, png in reconstruction_pictures(model, held_out).items():
                write_whole(folder / name, png)
                log.picture(Path(name).stem, (epoch + 1) * steps, png)
        shares = {name: float(np.mean(np.concatenate([part[name] for part in errors]))) for name in errors[0]}
        return {**{f"validation_{name}": share for name, share in shares.items()}, **measured}

    log = Trainer(
        title="pretrain",
        model=model,
        optimizer=optimizer,
        losses=losses,
        inputs=("ecg", "mask_noise"),
        batches_from=batches_from,
        validate=validation,
        best=BestWeights(folder, "validation_error", chief),
        patience=settings.epochs,
        strategy=strategy,
        epochs=settings.epochs,
        steps_per_epoch=steps,
        batch_size=settings.batch_size,
        folder=folder,
        settings=config.training,
        callbacks=callbacks,
    ).train()
    result = {
        "encoder_weights": encoder_weights,
        "decoder_weights": decoder_weights,
        "steps": int(log.rows[-1]["step"]),
        **{name: value for row in log.rows for name, value in row.items() if name.startswith("validation_")},
        "validated_on": validated_on,
    }
    if chief:
        initial_weights = storage_path(settings.initial_weights) if settings.initial_weights else None
        result |= note_training_data(
            config, manifest, folder, settings.splits, labelled=False, initial_weights=initial_weights
        )
        with file_errors(folder / AUTOENCODER, "write"):
            model.save(folder / AUTOENCODER)
        mark_done(folder, result)
    return result


def reconstruction_pictures(model: MaskedAutoencoder, batches: tf.data.Dataset) -> dict[str, bytes]:
    """The first recording's original, masked and reconstructed leads on ECG paper, a PNG for each of `PICTURES`."""
    batch = next(iter(batches))
    ecg, noise = batch["ecg"][:1], batch["mask_noise"][:1]
    reconstructed, mask = model.reconstruct(ecg, noise)
    shown = ecg[0].numpy(), np.asarray(reconstructed[0]), np.asarray(mask[0])
    return {name: to_png(draw_reconstruction(*shown, leads=leads)) for name, leads in PICTURES.items()}
