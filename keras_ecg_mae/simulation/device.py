"""What lies between the heart and the file: skin, mains, and an electrocardiograph of some make."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from scipy import signal
from scipy.special import ndtr

from keras_ecg_mae.simulation.heart import INDEPENDENT_LEADS
from keras_ecg_mae.spec import LEADS

WANDER_HZ = ((0.05, 0.15), (0.1, 0.3), (0.2, 0.5))
DISTURBANCE_DRAWS = 4 + 2 * len(WANDER_HZ) + len(INDEPENDENT_LEADS) * (len(WANDER_HZ) + 2)


@dataclass(frozen=True)
class Device:
    """An electrocardiograph and the room it stands in.

    Attributes:
        sampling_rate_hz: samples a second.
        leads: the leads it stores, in its order.
        high_pass_hz, low_pass_hz: cut-offs of its filters (first and second order Butterworth); None is no filter.
        resolution_mv: millivolts a unit of what it stores.
        gain_tolerance: standard deviation of its gain (IEC 60601-2-25 allows 5%).
        mains_hz, mains_mv: frequency and typical amplitude of the hum.
        wander_mv: typical amplitude of the baseline's wander.
        noise_mv: deviation of its own white noise, up to 250 Hz.
        muscle_mv: typical deviation of what tense muscles add; white too, as their spectrum is flat in this band.
    """

    sampling_rate_hz: int = 500
    leads: tuple[str, ...] = LEADS
    high_pass_hz: float | None = 0.05
    low_pass_hz: float | None = 150.0
    resolution_mv: float = 0.0025
    gain_tolerance: float = 0.02
    mains_hz: float = 50.0
    mains_mv: float = 0.008
    wander_mv: float = 0.06
    noise_mv: float = 0.004
    muscle_mv: float = 0.012


MAKES: tuple[Device, ...] = (
    Device(),
    Device(
        sampling_rate_hz=1000,
        leads=LEADS[6:] + LEADS[:6],
        high_pass_hz=0.15,
        resolution_mv=0.001,
        mains_mv=0.004,
        muscle_mv=0.018,
    ),
    # Stores what it measures; the other four leads are left to the reader, as MUSE files do.
    Device(
        leads=INDEPENDENT_LEADS,
        low_pass_hz=100.0,
        resolution_mv=1 / 204.8,
        gain_tolerance=0.03,
        mains_hz=60.0,
        wander_mv=0.09,
        noise_mv=0.006,
    ),
    Device(
        sampling_rate_hz=250,
        high_pass_hz=0.3,
        low_pass_hz=40.0,
        resolution_mv=0.005,
        mains_hz=60.0,
        noise_mv=0.008,
    ),
)


def device_of(institution: int) -> Device:
    """The device of an institution, numbered from 0: the makes in turn, each in rooms of its own noise."""
    loudness = 0.75 + 0.6 * (0.618 * institution % 1.0)
    make = MAKES[institution % len(MAKES)]
    return replace(
        make,
        mains_mv=make.mains_mv * loudness,
        wander_mv=make.wander_mv * loudness,
        muscle_mv=make.muscle_mv * loudness,
    )


def record(
    independent: np.ndarray,
    device: Device,
    breath: tuple[np.ndarray, np.ndarray],
    draws: Iterator[np.ndarray],
    white: np.ndarray,
) -> np.ndarray:
    """Adds what disturbs a recording, and passes it through the device's filters.

    Args:
        independent: `(n, 8, samples)` float32 mV at the electrodes.
        device: whose rate `independent` has.
        breath: `(n,)` rate in Hz and `(n,)` phase in rad of breathing.
        draws: rows of `(n,)` normal deviates; takes `DISTURBANCE_DRAWS`.
        white: `(n, 8, samples)` float32 normal deviates; overwritten.

    Returns:
        `(n, 8, samples)` float32 mV, not yet quantised.
    """
    time_s = np.arange(independent.shape[2]) / device.sampling_rate_hz
    loud, tense, gain, mains_phase = (next(draws) for _ in range(4))
    waves = [np.sin(2 * np.pi * breath[0][:, None] * time_s + breath[1][:, None])]
    for low_hz, high_hz in WANDER_HZ:
        rate_hz = low_hz + (high_hz - low_hz) * ndtr(next(draws))
        waves.append(np.sin(2 * np.pi * rate_hz[:, None] * time_s + np.pi * next(draws)[:, None]))
    waves.append(np.sin(2 * np.pi * device.mains_hz * time_s + np.pi * mains_phase[:, None]))
    sizes_mv = [device.wander_mv * np.exp(0.5 * loud)] * (len(waves) - 1) + [device.mains_mv * np.exp(0.7 * loud)]
    # Every lead has its own share of each wave: (n, 8, waves) @ (n, waves, samples).
    shares_mv = np.array([[size * next(draws) for size in sizes_mv] for _ in INDEPENDENT_LEADS]).transpose(2, 0, 1)
    disturbed = independent + shares_mv.astype(np.float32) @ np.stack(waves, axis=1).astype(np.float32)

    # Muscles tense and relax with the slowest of the waves.
    tension_mv = (device.muscle_mv * np.exp(0.7 * tense - 0.5))[:, None] * (1 + 0.8 * waves[1])
    density = np.sqrt(device.sampling_rate_hz / 500)  # the same noise a hertz at every rate
    white *= (density * np.hypot(device.noise_mv, tension_mv)).astype(np.float32)[:, None]
    disturbed += white
    disturbed *= (1 + device.gain_tolerance * gain).astype(np.float32)[:, None, None]
    return filtered(disturbed, device)


def filtered(ecg_mv: np.ndarray, device: Device) -> np.ndarray:
    """The device's high-pass and low-pass filters over `(n, 8, samples)`, settled on the first sample."""
    rate_hz = device.sampling_rate_hz
    sections = []
    if device.high_pass_hz is not None:
        sections.append(signal.butter(1, device.high_pass_hz, "highpass", fs=rate_hz, output="sos"))
    if device.low_pass_hz is not None and device.low_pass_hz < rate_hz / 2:
        sections.append(signal.butter(2, device.low_pass_hz, "lowpass", fs=rate_hz, output="sos"))
    if not sections:
        return ecg_mv
    cascade = np.concatenate(sections).astype(np.float32)
    settled = signal.sosfilt_zi(cascade)[:, None, None, :] * ecg_mv[None, :, :, :1]
    output: np.ndarray = signal.sosfilt(cascade, ecg_mv, zi=settled.astype(np.float32))[0]
    return output
