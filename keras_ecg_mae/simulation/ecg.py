"""The synthetic ECG simulator: patients and a device in, twelve leads in millivolts out.

`patients` says how hearts differ, `rhythm` when they beat, `heart` what a beat looks like, `device` what becomes of it
on the way into the file.
"""

import numpy as np

from keras_ecg_mae.simulation.device import DISTURBANCE_DRAWS, Device, record
from keras_ecg_mae.simulation.heart import (
    AMPLITUDE_MV,
    AXIS,
    BEFORE_R_S,
    INDEPENDENT_LEADS,
    IS_P,
    IS_QRS,
    IS_SEPTAL,
    IS_T,
    IS_TERMINAL,
    KERNELS,
    PHASE_RAD,
    WIDTH_RAD,
    dipoles_mv,
    twelve_leads,
)
from keras_ecg_mae.simulation.patients import Patients
from keras_ecg_mae.simulation.rhythm import RHYTHM_DRAWS, Rhythm, draw_rhythm
from keras_ecg_mae.spec import DURATION_S, LEADS

FIBRILLATION_DRAWS = 5
# Recordings worked on together: few enough that their Gaussians stay in a processor's cache.
CHUNK = 8

# Amplitudes of the fibrillating atria along x, y and z: V1 sees most, then II.
FIBRILLATION_MV = np.array([-0.01, 0.025, -0.045])


def simulate(patients: Patients, device: Device, seed: int | np.random.SeedSequence) -> np.ndarray:
    """One ten-second recording of each patient.

    Recording i depends on the seed, the device and patient i, not on how many patients follow.

    Args:
        patients: n hearts, from `draw_patients` or `visit`.
        device: what records them.
        seed: of what is not the patient's: the moment the recording starts, its beats, its noise.

    Returns:
        `(n, 12, 10 s * device.sampling_rate_hz)` float32 mV in the order of `spec.LEADS`, whatever the device
        stores; every value is a multiple of the device's resolution.
    """
    sequence = seed if isinstance(seed, np.random.SeedSequence) else np.random.SeedSequence(seed)
    # Not `spawn`, which would make a second call with the same sequence differ.
    events, noise = (
        np.random.default_rng(np.random.SeedSequence(sequence.entropy, spawn_key=(*sequence.spawn_key, child)))
        for child in range(2)
    )
    samples = round(DURATION_S * device.sampling_rate_hz)
    ecg_mv = np.empty((len(patients), len(LEADS), samples), np.float32)
    for first in range(0, len(patients), CHUNK):
        rows = slice(first, first + CHUNK)
        some = patients[rows]
        draws = iter(events.standard_normal((len(some), RHYTHM_DRAWS + FIBRILLATION_DRAWS + DISTURBANCE_DRAWS)).T)
        rhythm = draw_rhythm(some, DURATION_S, draws)
        dipole = beats_mv(some, rhythm, samples, device.sampling_rate_hz)
        dipole += fibrillation_mv(
            some, samples, device.sampling_rate_hz, [next(draws) for _ in range(FIBRILLATION_DRAWS)]
        )
        white = noise.standard_normal((len(some), len(INDEPENDENT_LEADS), samples), dtype=np.float32)
        seen = record(
            some.lead_vectors.astype(np.float32) @ dipole, device, (rhythm.breath_hz, rhythm.breath_rad), draws, white
        )
        ecg_mv[rows] = np.rint(twelve_leads(seen) / device.resolution_mv) * device.resolution_mv
    return ecg_mv


def beats_mv(patients: Patients, rhythm: Rhythm, samples: int, sampling_rate_hz: int) -> np.ndarray:
    """All beats in their places: `(n, 3, samples)` float32 dipole in mV."""
    recording, slot = np.nonzero(rhythm.present)
    r_s = rhythm.r_s[recording, slot]
    first = np.ceil((r_s - BEFORE_R_S) * sampling_rate_hz).astype(int)
    beats = dipoles_mv(first / sampling_rate_hz - r_s, sampling_rate_hz, kernels_of_beats(patients, rhythm))
    length = beats.shape[2]
    # Beats reach outside by up to their length; the margins are cut off again.
    dipole = np.zeros((len(patients), 3, samples + 2 * length), np.float32)
    for beat, row in enumerate(recording):
        begin = first[beat] + length
        dipole[row, :, begin : begin + length] += beats[beat]
    return dipole[:, :, length : length + samples]


def kernels_of_beats(patients: Patients, rhythm: Rhythm) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Centre and width `(beats, KERNELS)` in s, and moment `(beats, 3, KERNELS)` in mV, of all present beats."""
    recording, slot = np.nonzero(rhythm.present)
    heart, ectopic = patients[recording], rhythm.ectopic[recording, slot]

    # QRS and P keep their duration at any rate. QT follows the square root of RR (Bazett), and mostly that of the
    # last minute rather than of the last beat.
    rr_s = np.clip(0.75 * 60 / heart.heart_rate_bpm + 0.25 * rhythm.rr_s[recording, slot], 0.35, 1.6)
    qrs_stretch = np.where(ectopic, np.maximum(1.9, heart.qrs_stretch), heart.qrs_stretch)
    stretch = np.empty((recording.size, KERNELS))
    stretch[:, IS_P] = heart.pr_stretch[:, None]
    stretch[:, IS_QRS] = qrs_stretch[:, None]
    stretch[:, IS_T] = (heart.qt_stretch * np.sqrt(rr_s))[:, None]
    centre_s = stretch * PHASE_RAD / (2 * np.pi)
    # A wide QRS pushes its neighbours away: it begins about 0.03 s a unit of stretch before R and ends as long after.
    centre_s += 0.03 * (qrs_stretch - 1.2)[:, None] * np.where(IS_P, -1.0, np.where(IS_T, 1.0, 0.0))
    width_s = np.where(IS_P, 1.0, stretch) * WIDTH_RAD / (2 * np.pi)

    gain = np.ones((recording.size, KERNELS))
    gain[:, IS_P] = (heart.p_gain * ~(heart.fibrillates | ectopic))[:, None]
    gain[:, IS_SEPTAL] *= heart.septal_gain[:, None]
    gain[:, IS_TERMINAL] *= (heart.terminal_gain * ~ectopic)[:, None]
    gain[:, IS_QRS] *= heart.qrs_gain[:, AXIS[IS_QRS]]
    # The T wave of a ventricular beat points away from its QRS.
    gain[:, IS_T] = np.where(ectopic[:, None], -1.1, heart.t_gain[:, AXIS[IS_T]])
    breathing = np.sin(
        2 * np.pi * rhythm.breath_hz[recording] * rhythm.r_s[recording, slot] + rhythm.breath_rad[recording]
    )
    gain *= (1 + 0.04 * breathing)[:, None]

    qrs_turn = np.where(ectopic[:, None, None], 1.2 * heart.ectopic_rotation, heart.qrs_rotation)
    t_turn = np.where(ectopic[:, None, None], 1.2 * heart.ectopic_rotation, heart.t_rotation)
    # A Gaussian along axis a becomes one along column a of its wave's rotation.
    moment_mv = np.where(IS_T, t_turn[:, :, AXIS], qrs_turn[:, :, AXIS]) * (gain * AMPLITUDE_MV)[:, None, :]
    return centre_s, width_s, moment_mv


def fibrillation_mv(patients: Patients, samples: int, sampling_rate_hz: int, draws: list[np.ndarray]) -> np.ndarray:
    """The waves of fibrillating atria, `(n, 3, samples)` float32 mV; zero for the others.

    Stridh and Sornmo, 'Spatiotemporal QRST cancellation techniques for analysis of atrial fibrillation', IEEE Trans.
    Biomed. Eng. 2001: a sawtooth of a few harmonics whose rate, 4 to 9 Hz, and size swing slowly.
    """
    size, rate, phase, swing_phase, swing = draws
    time_s = np.arange(samples) / sampling_rate_hz
    swing_hz = np.clip(0.2 + 0.05 * swing, 0.08, 0.4)[:, None]
    slow = np.sin(2 * np.pi * swing_hz * time_s + np.pi * swing_phase[:, None])
    rate_hz = np.clip(6.3 + 0.8 * rate, 4, 9)[:, None]
    angle = 2 * np.pi * rate_hz * time_s + np.pi * phase[:, None] + 1.2 * slow
    sawtooth = sum(np.sin(harmonic * angle) / harmonic for harmonic in (1, 2, 3)) * (1 + 0.3 * slow)
    amplitude = np.exp(0.4 * size) * patients.fibrillates
    return (FIBRILLATION_MV[:, None] * (amplitude[:, None] * sawtooth)[:, None, :]).astype(np.float32)
