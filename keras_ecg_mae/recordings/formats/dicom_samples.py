"""The samples of a DICOM waveform's multiplex group: how they are stored, and what a channel's mean in millivolts."""

import re

import numpy as np

from keras_ecg_mae.errors import RecordingError
from keras_ecg_mae.recordings.formats.dicom_dataset import Item
from keras_ecg_mae.recordings.leads_and_units import MILLIVOLTS_PER, QUOTABLE_UNIT, voltage_unit

# PS3.3, C.10.9.1.5. MB and AB are companded speech; no ECG has 64 bits.
SAMPLE_TYPES = {
    (8, "SB"): "i1",
    (8, "UB"): "u1",
    (16, "SS"): "i2",
    (16, "US"): "u2",
    (32, "SL"): "i4",
    (32, "UL"): "u4",
}
# The values of Channel Status after which the samples are, or may be, the lead's. The others say that they are not.
USABLE_STATUS = frozenset({"", "OK", "QUESTIONABLE", "UNZEROED"})


def read_samples(group: Item, samples: int, channels: int) -> tuple[np.ndarray, int | None]:
    """A multiplex group's samples as they are stored.

    Returns:
        `(samples, channels)`, and the value that stands for a missing sample, None without one.

    Raises:
        RecordingError: `unknown_format`, `truncated` or `malformed`.
    """
    bits, interpretation = group.integer("WaveformBitsAllocated"), group.text("WaveformSampleInterpretation")
    if (bits, interpretation) not in SAMPLE_TYPES:
        received = interpretation if re.fullmatch("[A-Z]{2}", interpretation) else "another"
        raise RecordingError(
            group.path,
            "unknown_format",
            f"Expected 8-bit SB or UB, 16-bit SS or US, or 32-bit SL or UL. Received {received} in {bits} bits.",
        )
    if bits == 32 and not group.little_endian:
        # Big-endian files, retired long before the first ECG of 32 bits, hold words of 16: nothing orders the two.
        raise RecordingError(
            group.path, "unknown_format", "Expected 32-bit samples in little-endian. Received big-endian."
        )
    dtype = np.dtype(("<" if group.little_endian else ">") + SAMPLE_TYPES[bits, interpretation])
    stored = group.value("WaveformData")
    expected = samples * channels * dtype.itemsize
    if len(stored) < expected:
        raise RecordingError(
            group.path, "truncated", f"Expected {expected} bytes in WaveformData. Received {len(stored)}."
        )
    if len(stored) > expected + expected % 2:
        raise group.malformed("WaveformData", f"{expected} bytes", f"{len(stored)}")
    padding = group.value("WaveformPaddingValue")
    if 0 < len(padding) < dtype.itemsize:
        raise group.malformed("WaveformPaddingValue", f"{dtype.itemsize} bytes", f"{len(padding)}")
    multiplex = np.frombuffer(stored, dtype, count=samples * channels).reshape(samples, channels)
    return multiplex, int(np.frombuffer(padding, dtype, count=1)[0]) if padding else None


def millivolts(digital: np.ndarray, padding: int | None, name: str, definition: Item) -> np.ndarray:
    """One channel's samples, float64, NaN where they are missing (PS3.3, C.10.9.1.4.2).

    Args:
        digital: `(samples,)`, as stored.
        padding: the value that stands for a missing sample.
        name: the channel, as messages call it.
        definition: its item of the Channel Definition Sequence.

    Raises:
        RecordingError: `unit`, `leads` or `malformed`.
    """
    if not USABLE_STATUS.issuperset(definition.text("ChannelStatus").split("\\")):
        raise RecordingError(definition.path, "leads", f"Expected {name} to have ChannelStatus OK. Received another.")
    sensitivity = definition.decimal("ChannelSensitivity")
    # Carts put the size of a stored unit into either of the two and 1 into the other: neither can be left out.
    correction = definition.decimal("ChannelSensitivityCorrectionFactor")
    if not sensitivity or not correction:
        lacking = "ChannelSensitivity" if not sensitivity else "ChannelSensitivityCorrectionFactor"
        raise RecordingError(definition.path, "unit", f"Expected {name} to have a {lacking}. Received none, or 0.")
    units = [unit.text("CodeValue") for unit in definition.items("ChannelSensitivityUnitsSequence")]
    unit = voltage_unit(units[0]) if len(units) == 1 else None
    if unit is None:
        received = units[0] if len(units) == 1 and QUOTABLE_UNIT.fullmatch(units[0]) else "none of them"
        raise RecordingError(definition.path, "unit", f"Expected {name} in uV, mV or V. Received {received}.")
    # Without one, 0 will do: an electrocardiograph blocks direct current, so the offset means nothing.
    baseline = definition.decimal("ChannelBaseline") or 0.0
    is_missing = digital == padding if padding is not None else np.zeros(digital.shape, bool)
    check_stored_bits(digital[~is_missing], name, definition)
    with np.errstate(all="ignore"):  # a sensitivity of 1e300 gives infinity, which conforming refuses
        physical = digital.astype(np.float64)
        physical *= sensitivity * correction
        physical += baseline
        physical *= MILLIVOLTS_PER[unit]
    physical[is_missing] = np.nan
    return physical


def check_stored_bits(digital: np.ndarray, name: str, definition: Item) -> None:
    """Raises `RecordingError` where a sample takes more bits than Waveform Bits Stored.

    The standard wants the sign extended over the bits allocated (PS3.3, C.10.9.1.7): of a writer that leaves them 0,
    each negative sample would become a large positive one.
    """
    bits, allocated = definition.integer("WaveformBitsStored"), 8 * digital.dtype.itemsize
    if not 1 <= bits <= allocated:
        raise definition.malformed("WaveformBitsStored", f"1 to {allocated}", f"{bits}")
    signed = digital.dtype.kind == "i"
    lowest, highest = (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) if signed else (0, (1 << bits) - 1)
    if bits < allocated and digital.size and not lowest <= digital.min() <= digital.max() <= highest:
        raise RecordingError(
            definition.path,
            "malformed",
            f"Expected the samples of {name} between {lowest} and {highest}, as WaveformBitsStored {bits} says. "
            f"Received {digital.min()} to {digital.max()}.",
        )
