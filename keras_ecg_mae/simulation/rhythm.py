"""When the heart beats: sinus rhythm, atrial fibrillation, premature ventricular beats."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtr

from keras_ecg_mae.simulation.heart import AFTER_R_S, BEFORE_R_S
from keras_ecg_mae.simulation.patients import Patients

# Beats drawn for every recording, used or not, so that its draws do not depend on its rate: 10 s at 200 a minute and
# what reaches in from either side.
SLOTS = 44
RHYTHM_DRAWS = 2 * SLOTS + 6


@dataclass(frozen=True)
class Rhythm:
    """Beats of n recordings, in slots; only those that touch the recording are `present`.

    Attributes:
        r_s: `(n, SLOTS)` time of R from the recording's start.
        rr_s: `(n, SLOTS)` interval that ends with this beat.
        ectopic: `(n, SLOTS)` bool, premature ventricular.
        present: `(n, SLOTS)` bool.
        breath_hz, breath_rad: `(n,)` rate and phase of breathing.
    """

    r_s: np.ndarray
    rr_s: np.ndarray
    ectopic: np.ndarray
    present: np.ndarray
    breath_hz: np.ndarray
    breath_rad: np.ndarray


def draw_rhythm(patients: Patients, duration_s: float, draws: Iterator[np.ndarray]) -> Rhythm:
    """Beat times.

    Sinus rhythm follows McSharry et al., 'A dynamical model for generating synthetic electrocardiogram signals', IEEE
    Trans. Biomed. Eng. 2003: RR swings with Mayer waves (0.1 Hz, deviation 0.01) and with breathing (around 0.25 Hz),
    at their power ratio of 0.5; over ten seconds each band is as good as one sine. In fibrillation RR is independent
    from beat to beat. A premature beat comes after about two thirds of the interval, and a compensatory pause follows.

    Args:
        patients: n of them.
        duration_s: how long the recording is.
        draws: rows of `(n,)` normal deviates; takes `RHYTHM_DRAWS`.
    """
    n = len(patients)
    mean_rr_s = 60.0 / patients.heart_rate_bpm
    start, mayer_phase, breath_phase = (ndtr(next(draws)) for _ in range(3))
    mayer_hz = 0.1 + 0.01 * next(draws)
    breath_hz = np.clip(0.25 + 0.03 * next(draws), 0.15, 0.4)
    coupling = np.clip(0.66 + 0.05 * next(draws), 0.55, 0.78)
    mayer, breath = np.sqrt(2 / 3) * patients.rate_variability, np.sqrt(4 / 3) * patients.rate_variability

    r_s, rr_s = np.empty((n, SLOTS)), np.empty((n, SLOTS))
    ectopic = np.zeros((n, SLOTS), bool)
    now, interval = -mean_rr_s * (0.5 + start), mean_rr_s
    for slot in range(SLOTS):
        r_s[:, slot], rr_s[:, slot] = now, interval
        jitter, chance = next(draws), ndtr(next(draws))
        sinus = (
            1
            + mayer * np.sin(2 * np.pi * (mayer_hz * now + mayer_phase))
            + breath * np.sin(2 * np.pi * (breath_hz * now + breath_phase))
            + 0.004 * jitter
        )
        fibrillation = np.clip(np.exp(0.22 * jitter - 0.22**2 / 2), 0.55, 1.8)
        interval = mean_rr_s * np.where(patients.fibrillates, fibrillation, sinus)
        if slot + 1 < SLOTS:
            ectopic[:, slot + 1] = (chance < patients.ectopy) & ~ectopic[:, slot]
            early, late = ectopic[:, slot + 1], ectopic[:, slot] & ~patients.fibrillates
            interval = np.where(early, coupling * mean_rr_s, np.where(late, (2 - coupling) * mean_rr_s, interval))
        now = now + interval
    present = (r_s > -AFTER_R_S) & (r_s < duration_s + BEFORE_R_S)
    return Rhythm(r_s, rr_s, ectopic, present, breath_hz, 2 * np.pi * breath_phase)
