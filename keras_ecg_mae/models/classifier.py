"""The classifier that fine-tuning makes of a pretrained encoder."""

from typing import Any

import keras
from keras import ops

from keras_ecg_mae.layers.normalization import RecordNormalization
from keras_ecg_mae.layers.tokens import to_patches
from keras_ecg_mae.layers.transformer import NORM_EPSILON
from keras_ecg_mae.models.encoder import Encoder


@keras.saving.register_keras_serializable(package="keras_ecg_mae")
class Classifier(keras.Model):
    """Encoder, pooling, normalisation and one dense layer (Sawano et al., Methods).

    The paper does not say what it pools. `mean`, the default, normalises the mean of the patch tokens, as He et al.
    2022 fine-tune; `class_token` normalises the class token.

    Args:
        encoder: an `Encoder` without its final norm: the classifier's own norm takes its place.
        normalization: `RecordNormalization`'s mode; the pretrained encoder's.
        pooling: `"mean"` or `"class_token"`.
        head_deviation: standard deviation of the dense layer's initial weights. He et al. 2022 start a linear probe
            with 0.01, the default, and fine-tuning with 2e-5; the paper does not say.

    Call: `(batch, 12, 5000)` mV -> logits `(batch,)` float32. In training, an encoder with stochastic depth needs
        `path_noise` `(batch, depth, 2)`, uniform in [0, 1).
    """

    def __init__(
        self,
        encoder: Encoder,
        normalization: str = "lead",
        pooling: str = "mean",
        head_deviation: float = 0.01,
        **kwargs: Any,
    ):
        super().__init__(dtype="float32", **kwargs)
        if encoder.final_norm:
            raise ValueError("Expected an encoder without final norm. Received one with final_norm=True.")
        if pooling not in ("mean", "class_token"):
            raise ValueError(f"Expected pooling to be mean or class_token. Received {pooling!r}.")
        self.encoder, self.pooling, self.head_deviation = encoder, pooling, head_deviation
        self.normalization = RecordNormalization(normalization, name="normalization")
        self.norm = keras.layers.LayerNormalization(epsilon=NORM_EPSILON, name="norm", dtype="float32")
        # Near zero, so that the first steps move the head and not the encoder.
        initializer = keras.initializers.RandomNormal(stddev=head_deviation)
        self.head = keras.layers.Dense(1, kernel_initializer=initializer, name="head", dtype="float32")
        if not encoder.built:  # loading a saved model builds the encoder first
            encoder.build()
        self.norm.build((None, encoder.width))
        self.head.build((None, encoder.width))
        self.built = True

    def get_build_config(self) -> None:
        """None: the constructor builds every weight."""

    def call(self, ecg: Any, training: bool | None = None, path_noise: Any = None) -> Any:
        return self.head(self.features(ecg, training=training, path_noise=path_noise))[:, 0]

    def features(self, ecg: Any, training: bool | None = None, path_noise: Any = None) -> Any:
        """`(batch, 12, 5000)` mV -> what the dense layer reads, `(batch, width)` float32."""
        if not training or not self.encoder.drop_path:
            path_noise = None
        elif path_noise is None:
            raise ValueError(
                f"Expected path_noise (batch, {self.encoder.depth}, 2) to train with drop_path "
                f"{self.encoder.drop_path}. Received None."
            )
        tokens = self.encoder(to_patches(self.normalization(ecg)), path_noise=path_noise)
        pooled = ops.mean(tokens[:, 1:], axis=1) if self.pooling == "mean" else tokens[:, 0]
        return self.norm(pooled)

    def probability(self, ecg: Any) -> Any:
        """`(batch, 12, 5000)` mV -> probability of a positive label, `(batch,)` float32."""
        return ops.sigmoid(self(ecg, training=False))

    def get_config(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "encoder": keras.saving.serialize_keras_object(self.encoder),
            "normalization": self.normalization.mode,
            "pooling": self.pooling,
            "head_deviation": self.head_deviation,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> "Classifier":
        config = dict(config)
        config["encoder"] = keras.saving.deserialize_keras_object(config["encoder"], custom_objects=custom_objects)
        return cls(**config)
