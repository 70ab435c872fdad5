"""A beat of the heart as a moving dipole, and how the eight electrodes see it.

Sameni, Clifford, Jutten, Shamsollahi, 'Multichannel ECG and noise modeling: application to maternal and fetal ECG
signals', EURASIP J. Adv. Signal Process. 2007: each axis of the vectorcardiogram (x to the left, y to the feet, z to
the back, Frank's axes) is a sum of Gaussians of the beat's phase. The values are those of a normal adult in the
authors' OSET toolbox. The published model's phase runs once round in a beat, which stretches all waves with the RR
interval; here phase is read as time at 60 a minute (2 pi a second), and each wave has a stretch of its own.
"""

import numpy as np

from keras_ecg_mae.spec import LEADS

# Phase in rad, amplitude in mV and width in rad of each Gaussian, axis by axis; R stands at phase 0.
X = np.array(
    [
        [-1.09, -0.83, -0.19, -0.07, 0.0, 0.06, 0.22, 1.2, 1.42, 1.68, 2.9],
        [0.03, 0.08, -0.13, 0.85, 1.11, 0.75, 0.06, 0.1, 0.17, 0.39, 0.03],
        [0.0906, 0.1057, 0.0453, 0.0378, 0.0332, 0.0302, 0.0378, 0.6040, 0.3020, 0.1812, 0.5],
    ]
)
Y = np.array(
    [
        [-1.1, -0.9, -0.76, -0.11, -0.01, 0.065, 0.8, 1.58, 2.9],
        [0.035, 0.015, -0.019, 0.32, 0.51, -0.32, 0.04, 0.08, 0.014],
        [0.07, 0.07, 0.04, 0.055, 0.037, 0.0604, 0.450, 0.3, 0.5],
    ]
)
Z = np.array(
    [
        [-1.1, -0.93, -0.7, -0.4, -0.15, 0.095, 1.05, 1.25, 1.55, 2.8],
        [-0.03, -0.14, -0.035, 0.045, -0.4, 0.46, -0.12, -0.2, -0.35, -0.035],
        [0.03, 0.12, 0.04, 0.4, 0.045, 0.05, 0.8, 0.4, 0.2, 0.4],
    ]
)
# Not published: the late force to the right and front that a blocked right bundle adds (r' in V1, S in I and V6).
TERMINAL_RAD, TERMINAL_MV, TERMINAL_WIDTH_RAD = 0.36, (-0.40, 0.0, -0.45), 0.11

PHASE_RAD = np.concatenate([X[0], Y[0], Z[0], [TERMINAL_RAD] * 3])
AMPLITUDE_MV = np.concatenate([X[1], Y[1], Z[1], TERMINAL_MV])
WIDTH_RAD = np.concatenate([X[2], Y[2], Z[2], [TERMINAL_WIDTH_RAD] * 3])
AXIS = np.repeat([0, 1, 2, 0, 1, 2], [X.shape[1], Y.shape[1], Z.shape[1], 1, 1, 1])
KERNELS = PHASE_RAD.size

# Which wave a Gaussian belongs to, by its place in the beat.
IS_P = PHASE_RAD < -0.3
IS_T = PHASE_RAD > 0.7
IS_QRS = ~IS_P & ~IS_T
IS_TERMINAL = np.arange(KERNELS) >= KERNELS - 3
# The septum's force to the front and right: r in V1 to V3, q in I and V6.
IS_SEPTAL = IS_QRS & (PHASE_RAD < -0.12) & (AXIS != 1)

# Dower, Machado, Osborne, 'On deriving the electrocardiogram from vectorcardiographic leads', Clin. Cardiol. 1980.
INDEPENDENT_LEADS = ("I", "II", "V1", "V2", "V3", "V4", "V5", "V6")
DOWER = np.array(
    [
        [0.632, -0.235, 0.059],
        [0.235, 1.066, -0.132],
        [-0.515, 0.157, -0.917],
        [0.044, 0.164, -1.387],
        [0.882, 0.098, -1.277],
        [1.213, 0.127, -0.601],
        [1.125, 0.127, -0.086],
        [0.831, 0.076, 0.230],
    ]
)

# A beat is drawn from 0.4 s before its R peak, where the longest PR interval starts, to 1 s after it, where T is over.
BEFORE_R_S, AFTER_R_S = 0.4, 1.0


def dipoles_mv(start_s: np.ndarray, sampling_rate_hz: float, kernels: tuple[np.ndarray, ...]) -> np.ndarray:
    """The dipole of each beat over the time it lasts.

    Args:
        start_s: `(beats,)` time of the first sample from the R peak, about `-BEFORE_R_S`.
        sampling_rate_hz: samples a second.
        kernels: centre `(beats, KERNELS)` in s, width `(beats, KERNELS)` in s, moment `(beats, 3, KERNELS)` in mV.

    Returns:
        `(beats, 3, samples)` float32, mV.
    """
    centre_s, width_s, moment_mv = (values.astype(np.float32) for values in kernels)
    samples = int((BEFORE_R_S + AFTER_R_S) * sampling_rate_hz)
    time_s = np.arange(samples, dtype=np.float32) / np.float32(sampling_rate_hz)
    scale = np.sqrt(np.float32(0.5)) / width_s
    # (beats, KERNELS, samples): worked on in place, this is where the simulator's time goes.
    gaussians = scale[:, :, None] * time_s
    gaussians -= (scale * (centre_s - start_s[:, None].astype(np.float32)))[:, :, None]
    np.square(gaussians, out=gaussians)
    np.negative(gaussians, out=gaussians)
    np.exp(gaussians, out=gaussians)
    return moment_mv @ gaussians


def rotation(axis: int, degrees: np.ndarray) -> np.ndarray:
    """`(n, 3, 3)` rotations about `axis`: 2 turns x to y (in the frontal plane), 1 turns x to z (to the back)."""
    first, second = ((1, 2), (0, 2), (0, 1))[axis]
    matrices = np.tile(np.eye(3), (degrees.size, 1, 1))
    cosine, sine = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    matrices[:, first, first] = matrices[:, second, second] = cosine
    matrices[:, second, first], matrices[:, first, second] = sine, -sine
    return matrices


def twelve_leads(independent: np.ndarray) -> np.ndarray:
    """`(n, 8, samples)` of `INDEPENDENT_LEADS` to `(n, 12, samples)` of `spec.LEADS`, by Einthoven and Goldberger."""
    lead_i, lead_ii = independent[:, 0], independent[:, 1]
    derived = {
        "III": lead_ii - lead_i,
        "aVR": -(lead_i + lead_ii) / 2,
        "aVL": lead_i - lead_ii / 2,
        "aVF": lead_ii - lead_i / 2,
    }
    measured = {lead: independent[:, row] for row, lead in enumerate(INDEPENDENT_LEADS)}
    return np.stack([(measured | derived)[lead] for lead in LEADS], axis=1)
