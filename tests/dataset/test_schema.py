"""tf.Examples: what is written comes back."""

from collections.abc import Sequence

import numpy as np
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from keras_ecg_mae import spec
from keras_ecg_mae.dataset import schema
from keras_ecg_mae.dataset.tf_example import Metadata, encode

ALL = ("ecg", "record_id", "patient_key", "institution", "label", "lvef", "age", "sex")
UNKNOWN = Metadata("r", "k", "i", None, None, None, "")


def ecg_with(values: Sequence[float] | np.ndarray) -> np.ndarray:
    ecg_mv = np.zeros((12, spec.SAMPLES))
    ecg_mv.flat[: len(values)] = values
    return ecg_mv


@settings(deadline=None, max_examples=30)
@given(
    arrays.arrays(np.float64, 40, elements=st.floats(-32.768, 32.767)),
    st.text(max_size=20),
    st.sampled_from([None, 0, 1]),
    st.none() | st.floats(0, 100, width=32),
)
def test_round_trip(values: np.ndarray, name: str, label: int | None, lvef: float | None) -> None:
    metadata = Metadata(name, "key", "institution", label, lvef, None, "F")
    ecg_mv = ecg_with(values)
    decoded = schema.decode(tf.constant([encode(ecg_mv, metadata)]), ALL)
    assert decoded["ecg"].shape == (1, 12, spec.SAMPLES)
    assert decoded["ecg"].dtype == tf.float32
    # Half a unit, and what float32 leaves of 32 mV.
    assert np.abs(decoded["ecg"][0].numpy() - ecg_mv).max() <= 0.0005 + 3e-6
    assert decoded["record_id"][0].numpy().decode() == name
    np.testing.assert_array_equal(decoded["label"], [np.nan if label is None else label])
    np.testing.assert_array_equal(decoded["lvef"], np.array([np.nan if lvef is None else lvef], np.float32))
    np.testing.assert_array_equal(decoded["age"], [np.nan])
    assert decoded["sex"][0] == b"F"


def test_is_labelled() -> None:
    labelled = Metadata("r", "k", "i", 0, None, None, "")
    assert schema.is_labelled(tf.constant(encode(ecg_with([]), labelled)))
    assert not schema.is_labelled(tf.constant(encode(ecg_with([]), UNKNOWN)))
