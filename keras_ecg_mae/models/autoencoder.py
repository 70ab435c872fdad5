"""The masked autoencoder."""

from typing import Any

import keras
from keras import ops

from keras_ecg_mae.layers.normalization import RecordNormalization
from keras_ecg_mae.layers.tokens import from_patches, kept_patches, random_mask, to_patches
from keras_ecg_mae.models.decoder import Decoder
from keras_ecg_mae.models.encoder import Encoder
from keras_ecg_mae.spec import LEADS, PATCHES, PATCHES_PER_LEAD

TARGET_EPSILON = 1e-6  # He et al. 2022, added to a target patch's variance


@keras.saving.register_keras_serializable(package="keras_ecg_mae")
class MaskedAutoencoder(keras.Model):
    """Hides most patches of a recording, encodes the rest, reconstructs what was hidden.

    Sawano et al., Methods, after He et al. 2022.

    Args:
        encoder: reads the visible patches.
        decoder: predicts all patches from what the encoder made of them.
        normalization: `RecordNormalization`'s mode.
        mask_ratio: share of the 240 patches that is removed.
        normalize_target: the target is each patch with zero mean and unit deviation of its own.

    Call: `ecg` `(batch, 12, 5000)` mV and `mask_noise` `(batch, 240)`; without noise, it is drawn.
        Returns a dict: `latent` `(batch, 1 + kept, width)`, `prediction` `(batch, 240, 250)`,
        `target` `(batch, 240, 250)` and `mask` `(batch, 240)`, 1 where removed.
    """

    def __init__(
        self,
        encoder: Encoder,
        decoder: Decoder,
        normalization: str = "lead",
        mask_ratio: float = 0.75,
        normalize_target: bool = False,
        **kwargs: Any,
    ):
        # float32 whatever the transformers compute in: casting would round the signal, and tie the mask's noise.
        super().__init__(dtype="float32", **kwargs)
        self.encoder, self.decoder = encoder, decoder
        self.mask_ratio, self.normalize_target = mask_ratio, normalize_target
        self.kept = kept_patches(PATCHES, mask_ratio)
        self.normalization = RecordNormalization(normalization, name="normalization")
        self.seed_generator = keras.random.SeedGenerator()
        if not encoder.built:  # loading a saved model builds the parts first
            encoder.build()
        if not decoder.built:
            decoder.build((None, None, encoder.width))
        self.built = True

    def get_build_config(self) -> None:
        """None: the constructor builds every weight."""

    def call(self, ecg: Any, mask_noise: Any = None, training: bool | None = None) -> dict[str, Any]:
        if mask_noise is None:
            mask_noise = keras.random.uniform((ops.shape(ecg)[0], PATCHES), seed=self.seed_generator)
        patches = to_patches(self.normalization(ecg))
        visible, position, mask = random_mask(mask_noise, self.kept)
        latent = self.encoder(patches, visible)
        return {
            "latent": latent,
            "prediction": self.decoder(latent, position),
            "target": patch_normalized(patches)[0] if self.normalize_target else patches,
            "mask": mask,
        }

    def encode(self, ecg: Any) -> Any:
        """The encoder's tokens of a whole recording, `(batch, 241, width)`: the class token, then one a patch."""
        return self.encoder(to_patches(self.normalization(ecg)))

    def reconstruct(self, ecg: Any, mask_noise: Any) -> tuple[Any, Any]:
        """Reconstruction in mV `(batch, 12, 5000)`, visible patches as they were, and mask `(batch, 240)`."""
        output = self(ecg, mask_noise, training=False)
        patches = to_patches(self.normalization(ecg))
        prediction = output["prediction"]
        if self.normalize_target:
            _, mean, deviation = patch_normalized(patches)
            prediction = prediction * deviation + mean
        mask = output["mask"][:, :, None]
        mean, deviation = self.normalization.moments(ecg)
        return from_patches(patches * (1 - mask) + prediction * mask) * deviation + mean, output["mask"]

    def get_config(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "encoder": keras.saving.serialize_keras_object(self.encoder),
            "decoder": keras.saving.serialize_keras_object(self.decoder),
            "normalization": self.normalization.mode,
            "mask_ratio": self.mask_ratio,
            "normalize_target": self.normalize_target,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> "MaskedAutoencoder":
        config = dict(config)
        for part in ("encoder", "decoder"):
            config[part] = keras.saving.deserialize_keras_object(config[part], custom_objects=custom_objects)
        return cls(**config)


def patch_normalized(patches: Any) -> tuple[Any, Any, Any]:
    """Each patch with its own mean and deviation taken out, and these two, `(batch, 240, 1)`.

    The variance is the unbiased one (divided by n - 1), as in the published implementation.
    """
    samples = patches.shape[-1]
    mean = ops.mean(patches, axis=-1, keepdims=True)
    variance = ops.var(patches, axis=-1, keepdims=True) * (samples / (samples - 1))
    deviation = ops.sqrt(variance + TARGET_EPSILON)
    return (patches - mean) / deviation, mean, deviation


def reconstruction_loss(output: dict[str, Any]) -> Any:
    """Mean squared error over the removed patches of each recording, `(batch,)` (He et al. 2022, section 3)."""
    error = ops.mean(ops.square(output["prediction"] - output["target"]), axis=-1)
    return ops.sum(error * output["mask"], axis=1) / ops.sum(output["mask"], axis=1)


def reconstruction_errors(output: dict[str, Any]) -> dict[str, Any]:
    """Errors on removed patches beside those of two trivial predictors, as shares of the target's variance.

    Returns:
        dict of `(batch,)`: `error` of the model, `record_mean` of predicting the recording's mean everywhere,
        `lead_visible_mean` of predicting the mean of the same lead's visible patches (the recording's mean where a
        lead has none), `visible_error` of the model on the patches it saw, which no loss asks to be small.
    """
    target, mask = output["target"], output["mask"][:, :, None]
    record_mean = ops.mean(target, axis=(1, 2), keepdims=True)
    variance = ops.maximum(ops.mean(ops.square(target - record_mean), axis=(1, 2)), 1e-12)

    by_lead = (-1, len(LEADS), PATCHES_PER_LEAD, 1)
    visible = ops.reshape(1 - mask, by_lead)
    patch_means = ops.reshape(ops.mean(target, axis=2), by_lead)
    count = ops.sum(visible, axis=2, keepdims=True)
    lead_mean = ops.sum(patch_means * visible, axis=2, keepdims=True) / ops.maximum(count, 1.0)
    lead_mean = ops.where(count > 0, lead_mean, record_mean[:, :, :, None])
    lead_mean = ops.reshape(ops.tile(lead_mean, (1, 1, PATCHES_PER_LEAD, 1)), (-1, PATCHES, 1))

    def share(prediction: Any, where: Any) -> Any:
        error = ops.mean(ops.square(prediction - target), axis=-1, keepdims=True)
        return ops.sum(error * where, axis=(1, 2)) / ops.sum(where, axis=(1, 2)) / variance

    return {
        "error": share(output["prediction"], mask),
        "record_mean": share(record_mean, mask),
        "lead_visible_mean": share(lead_mean, mask),
        "visible_error": share(output["prediction"], 1 - mask),
    }
