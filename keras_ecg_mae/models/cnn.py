"""The convolutional baseline: a network after Attia et al. 2019, as Sawano et al. compare with."""

from dataclasses import asdict, dataclass, field
from typing import Any

import keras
from keras import ops

from keras_ecg_mae.layers.normalization import RecordNormalization
from keras_ecg_mae.spec import LEADS, SAMPLES

STATED = "stated by the paper"
TAKEN = "from re-implementations"

_DEEP_CARDIOLOGY = "github.com/chrisby/DeepCardiology (phenotype_classification/attia_CNN.py)"
_STENHEDE = "github.com/eliasstenhede/heart-failure-detection-in-electrocardiogram (models/attia_et_al.py)"


def _value(default: Any, origin: str, source: str) -> Any:
    """A value of the layout, with where it comes from."""
    return field(default=default, metadata={"origin": origin, "source": source})


@dataclass(frozen=True)
class CnnLayout:
    """The sizes of the network; the metadata of each field says where its value comes from.

    Stated by the paper: 'six temporal convolution blocks, one spatial convolution block, one fully connected layer',
    128 features, then two dense layers and a sigmoid. The rest is what re-implementations of Attia et al. 2019
    (doi:10.1038/s41591-018-0240-2) use; `metadata["origin"]` is `STATED` or `TAKEN`, `metadata["source"]` the source.

    Raises:
        ValueError: the temporal blocks differ in number, a size is not positive, or the pools leave nothing.
    """

    temporal_filters: tuple[int, ...] = _value(
        (16, 16, 32, 32, 64, 64),
        TAKEN,
        f"That there are six is stated by the paper. {_DEEP_CARDIOLOGY} and {_STENHEDE} agree on the values.",
    )
    temporal_kernels: tuple[int, ...] = _value((5, 5, 5, 3, 3, 3), TAKEN, f"{_DEEP_CARDIOLOGY} and {_STENHEDE} agree.")
    temporal_pools: tuple[int, ...] = _value((2, 2, 4, 2, 2, 4), TAKEN, f"{_DEEP_CARDIOLOGY} and {_STENHEDE} agree.")
    spatial_filters: int = _value(
        128,
        TAKEN,
        "Re-implementations differ: 128 in some, also in those of the same group's network for age and sex "
        f"(doi:10.1161/CIRCEP.119.007284); 64 in {_DEEP_CARDIOLOGY}, which says that Attia et al. do not specify it; "
        f"16 in {_STENHEDE}.",
    )
    features: int = _value(128, STATED, "Sawano et al., Methods: 128 features.")
    dense: tuple[int, ...] = _value(
        (64, 32),
        TAKEN,
        f"That there are two is stated by the paper. {_DEEP_CARDIOLOGY} and {_STENHEDE} agree on the widths.",
    )
    norm_momentum: float = _value(
        0.9, TAKEN, f"PyTorch's default (there: 0.1), in {_STENHEDE}; {_DEEP_CARDIOLOGY} has Keras' default, 0.99."
    )
    norm_epsilon: float = _value(
        1e-5, TAKEN, f"PyTorch's default, in {_STENHEDE}; {_DEEP_CARDIOLOGY} has Keras' default, 1e-3."
    )

    def __post_init__(self) -> None:
        lengths = [len(self.temporal_filters), len(self.temporal_kernels), len(self.temporal_pools)]
        if len(set(lengths)) > 1:
            raise ValueError(f"Expected filters, kernels and pools of as many temporal blocks. Received {lengths}.")
        sizes = (*self.temporal_filters, *self.temporal_kernels, *self.temporal_pools, *self.dense)
        if min(*sizes, self.spatial_filters, self.features) < 1:
            raise ValueError(f"Expected positive sizes. Received {self}.")
        if self.positions < 1:
            raise ValueError(f"Expected pools that leave of {SAMPLES} samples at least one. Received {self}.")

    @property
    def positions(self) -> int:
        """Samples a lead after the temporal blocks: 19 for the default layout.

        As in the re-implementations, convolutions are padded and pooling drops what does not fill a pool:
        5000, 2500, 1250, 312, 156, 78, 19. So 19 x 256 = 4864 samples are covered; the last 136 (0.27 s) are seen
        only as far as the convolutions beside them reach, and the last 10 (20 ms) not at all.
        """
        positions = SAMPLES
        for pool in self.temporal_pools:
            positions //= pool
        return positions


class NormalizedBlock(keras.layers.Layer):
    """A convolution or dense layer, batch normalisation, ReLU, and max-pooling in time by `pool`.

    Under tf.distribute the batch is normalised by its statistics over all replicas. Else each replica would have
    statistics of its own part, of which Keras evaluates and saves the first one's.
    """

    def __init__(self, linear: keras.layers.Layer, layout: CnnLayout, pool: int = 1, **kwargs: Any):
        super().__init__(**kwargs)
        self.linear = linear
        self.norm = keras.layers.BatchNormalization(
            momentum=layout.norm_momentum,
            epsilon=layout.norm_epsilon,
            synchronized=keras.backend.backend() == "tensorflow",  # Keras has it for this backend alone
            name="norm",
            dtype=self.dtype_policy,
        )
        self.pool = (
            keras.layers.MaxPooling2D((1, pool), data_format="channels_last", name="pool", dtype=self.dtype_policy)
            if pool > 1
            else None
        )

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        self.linear.build(input_shape)
        self.norm.build(self.linear.compute_output_shape(input_shape))
        self.built = True

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        outputs = ops.relu(self.norm(self.linear(inputs), training=training))
        return outputs if self.pool is None else self.pool(outputs)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        shape = self.linear.compute_output_shape(input_shape)
        return shape if self.pool is None else self.pool.compute_output_shape(shape)


class ConvolutionalEncoder(keras.layers.Layer):
    """Temporal blocks with the same weights for every lead, one spatial block over all leads, one dense layer.

    Convolutions run over time, 1 x kernel, then once over the leads, 12 x 1.

    Args:
        layout: the sizes.

    Call: normalised recordings `(batch, 12, 5000)` -> features `(batch, layout.features)`.
    """

    def __init__(self, layout: CnnLayout, **kwargs: Any):
        super().__init__(**kwargs)
        self.layout = layout
        policy = self.dtype_policy

        def convolution(filters: int, kernel: tuple[int, int], padding: str) -> keras.layers.Layer:
            # No bias: batch normalisation takes it out again, and Adam would walk it at random by rounding noise.
            return keras.layers.Conv2D(
                filters,
                kernel,
                padding=padding,
                use_bias=False,
                data_format="channels_last",
                name="convolution",
                dtype=policy,
            )

        sizes = zip(layout.temporal_filters, layout.temporal_kernels, layout.temporal_pools, strict=True)
        self.temporal = [
            NormalizedBlock(
                convolution(filters, (1, kernel), "same"), layout, pool, name=f"temporal_{index}", dtype=policy
            )
            for index, (filters, kernel, pool) in enumerate(sizes)
        ]
        self.spatial = NormalizedBlock(
            convolution(layout.spatial_filters, (len(LEADS), 1), "valid"), layout, name="spatial", dtype=policy
        )
        self.features = NormalizedBlock(
            keras.layers.Dense(layout.features, use_bias=False, name="dense", dtype=policy),
            layout,
            name="features",
            dtype=policy,
        )

    def build(self, input_shape: tuple[int | None, ...] | None = None) -> None:
        shape: tuple[int | None, ...] = (None, len(LEADS), SAMPLES, 1)
        for block in (*self.temporal, self.spatial):
            block.build(shape)
            shape = block.compute_output_shape(shape)
        self.features.build((None, self.layout.positions * self.layout.spatial_filters))
        self.built = True

    def call(self, ecg: Any, training: bool | None = None) -> Any:
        maps = ops.expand_dims(ecg, -1)  # (batch, 12, 5000, 1)
        for block in self.temporal:
            maps = block(maps, training=training)
        maps = self.spatial(maps, training=training)  # (batch, 1, positions, filters)
        flat = ops.reshape(maps, (-1, self.layout.positions * self.layout.spatial_filters))
        return self.features(flat, training=training)


@keras.saving.register_keras_serializable(package="keras_ecg_mae")
class CnnClassifier(keras.Model):
    """Convolutional encoder, two dense layers, and one unit for the logit.

    The paper's 'two dense layers and a sigmoid' are read as two hidden layers, as in the re-implementations, followed
    by the sigmoid's unit. These have dropout of 0.1 to 0.5 there, or none; the paper is not known to state any, and
    here there is none.

    Args:
        layout: the sizes; by default `CnnLayout()`.
        normalization: `RecordNormalization`'s mode.
        dtype: policy of the encoder, which may be mixed; everything else is float32.

    Call: `(batch, 12, 5000)` mV -> logits `(batch,)` float32.
    """

    def __init__(self, layout: CnnLayout | None = None, normalization: str = "lead", dtype: Any = None, **kwargs: Any):
        super().__init__(dtype="float32", **kwargs)
        layout = layout or CnnLayout()
        self.normalization = RecordNormalization(normalization, name="normalization")
        self.encoder = ConvolutionalEncoder(layout, name="encoder", dtype=dtype)
        self.dense = [
            NormalizedBlock(
                keras.layers.Dense(width, use_bias=False, name="dense", dtype="float32"),
                layout,
                name=f"dense_{index}",
                dtype="float32",
            )
            for index, width in enumerate(layout.dense)
        ]
        self.head = keras.layers.Dense(1, name="head", dtype="float32")
        self.encoder.build()
        shape: tuple[int | None, ...] = (None, layout.features)
        for layer in (*self.dense, self.head):
            layer.build(shape)
            shape = layer.compute_output_shape(shape)
        self.built = True

    def get_build_config(self) -> None:
        """None: the constructor builds every weight."""

    def call(self, ecg: Any, training: bool | None = None) -> Any:
        hidden = self.features(ecg, training=training)
        for layer in self.dense:
            hidden = layer(hidden, training=training)
        return self.head(hidden)[:, 0]

    def features(self, ecg: Any, training: bool | None = None) -> Any:
        """`(batch, 12, 5000)` mV -> what the dense layers read, `(batch, layout.features)` float32."""
        return ops.cast(self.encoder(self.normalization(ecg), training=training), "float32")

    def probability(self, ecg: Any) -> Any:
        """`(batch, 12, 5000)` mV -> probability of a positive label, `(batch,)` float32."""
        return ops.sigmoid(self(ecg, training=False))

    def get_config(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "layout": asdict(self.encoder.layout),
            "normalization": self.normalization.mode,
            "dtype": keras.saving.serialize_keras_object(self.encoder.dtype_policy),
        }

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> "CnnClassifier":
        layout: dict[str, Any] = {  # a saved model's tuples come back as lists
            name: tuple(value) if isinstance(value, list) else value for name, value in config["layout"].items()
        }
        policy = keras.saving.deserialize_keras_object(config["dtype"], custom_objects=custom_objects)
        return cls(**{**config, "layout": CnnLayout(**layout), "dtype": policy})
