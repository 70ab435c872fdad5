"""Patients whose hearts differ, and differ with their ejection fraction.

What a low ejection fraction does, and from where:

* wider QRS, left bundle branch block: 31% of patients with heart failure have QRS >= 120 ms (Lund et al., Eur. Heart
  J. 2013); 124.5 +- 20.8 ms against 109.7 +- 13.1 ms (Cincin et al., Exp. Clin. Cardiol. 2012);
* lower R in V1 to V4, loops turned to the back: the most predictive single sign in PMC7483599, and part of the score
  of Lin et al., Front. Cardiovasc. Med. 2022 (poor R progression, QRS > 110 ms, rate > 100, ST depression; area under
  the curve 0.82 to 0.90 for an ejection fraction under 40%, which is about what this cohort is made to give);
* high voltage in the chest and low in the limb leads: Goldberger's triad, confirmed by Cincin et al.;
* faster rate, wide QRS-T angle, longer QTc: Reinier et al., Ann. Noninvasive Electrocardiol. 2018;
* atrial fibrillation, Q waves, ST-T changes: Davie et al., BMJ 1996; Nielsen et al., BMJ 2000;
* less heart rate variability: Nolan et al., Circulation 1998.

How much of each a patient shows is drawn for each patient and sign. People with a normal ejection fraction may
have bundle branch blocks, hypertrophy, flat T waves and fibrillation too. The sizes are chosen, not fitted.
"""

from collections.abc import Iterator
from dataclasses import dataclass, fields

import numpy as np
from scipy.special import ndtr

from keras_ecg_mae.simulation.heart import DOWER, rotation

# Normal deviates that a patient, and a visit, use up.
PATIENT_DRAWS, VISIT_DRAWS = 64, 32


@dataclass(frozen=True)
class Patients:
    """What makes one heart's ECG differ from another's; the first axis of every array is the patient.

    Attributes:
        heart_rate_bpm: `(n,)` beats a minute.
        rate_variability: `(n,)` standard deviation of RR in sinus rhythm, as a share of its mean.
        fibrillates: `(n,)` bool, atrial fibrillation.
        ectopy: `(n,)` probability that a beat is a premature ventricular one.
        pr_stretch, qrs_stretch, qt_stretch: `(n,)` duration as a multiple of the published heart's at 60 a minute.
        p_gain, septal_gain: `(n,)` multiples of the amplitude of P, and of the septum's part of QRS.
        terminal_gain: `(n,)` 0 to 1, how far the right bundle is blocked.
        qrs_gain, t_gain: `(n, 3)` multiples of the amplitude of QRS and T along x, y and z.
        qrs_rotation, t_rotation, ectopic_rotation: `(n, 3, 3)` turns of the loops of QRS (and P), of T, of ectopic
            beats.
        lead_vectors: `(n, 8, 3)` what each independent lead sees of the dipole: Dower's matrix, electrodes shifted.
    """

    heart_rate_bpm: np.ndarray
    rate_variability: np.ndarray
    fibrillates: np.ndarray
    ectopy: np.ndarray
    pr_stretch: np.ndarray
    qrs_stretch: np.ndarray
    qt_stretch: np.ndarray
    p_gain: np.ndarray
    septal_gain: np.ndarray
    terminal_gain: np.ndarray
    qrs_gain: np.ndarray
    t_gain: np.ndarray
    qrs_rotation: np.ndarray
    t_rotation: np.ndarray
    ectopic_rotation: np.ndarray
    lead_vectors: np.ndarray

    def __len__(self) -> int:
        return len(self.heart_rate_bpm)

    def __getitem__(self, rows: np.ndarray | slice) -> "Patients":
        """The patients in these rows, which may repeat."""
        return Patients(**{item.name: getattr(self, item.name)[rows] for item in fields(self)})


def burden(lvef: np.ndarray) -> np.ndarray:
    """How ill a ventricle is: near 0 above an ejection fraction of 55%, then rising smoothly to 1 at 20%."""
    return np.logaddexp(0.0, (50.0 - lvef) / 5.0) / 6.0


def draw_patients(lvef: np.ndarray, age: np.ndarray, rng: np.random.Generator) -> Patients:
    """Hearts for these ejection fractions.

    Args:
        lvef: `(n,)` percent.
        age: `(n,)` years: older hearts fibrillate, block and turn to the left more often.
        rng: patient i depends on the generator's state and on row i, not on the rows after it.
    """
    lvef, age = np.asarray(lvef, float), np.asarray(age, float)
    draws: Iterator[np.ndarray] = iter(rng.standard_normal((lvef.size, PATIENT_DRAWS)).T)
    illness, older = burden(lvef), (age - 60.0) / 10.0

    def normal(mean: float | np.ndarray, deviation: float | np.ndarray) -> np.ndarray:
        return mean + deviation * next(draws)

    def lognormal(deviation: float) -> np.ndarray:
        """Around 1."""
        return np.exp(deviation * next(draws) - deviation**2 / 2)

    def happens(probability: float | np.ndarray) -> np.ndarray:
        return ndtr(next(draws)) < probability

    def sign() -> np.ndarray:
        """How much of one sign of the illness this patient shows."""
        return illness * lognormal(0.5)

    fibrillates = happens(np.clip(0.03 + 0.02 * older + 0.15 * illness, 0.005, 0.5))
    rate = np.clip(normal(69, 11) + 12 * sign() + 12 * fibrillates, 42, 145)
    extrasystoles = happens(np.clip(0.06 + 0.01 * older + 0.3 * illness, 0.01, 0.6))

    left_block = happens(np.clip(0.015 + 0.008 * older + 0.16 * illness, 0.003, 0.4))
    right_block = ~left_block & happens(np.clip(0.03 + 0.015 * older + 0.03 * illness, 0.005, 0.2))
    qrs_stretch = normal(1.20, 0.10) + 0.25 * sign() + left_block * normal(0.55, 0.08)
    qrs_stretch = np.clip(qrs_stretch, 0.95, 2.3)

    hypertrophy = happens(0.12)  # raised voltage and strained T, at any ejection fraction
    strain = hypertrophy * np.abs(normal(0.0, 0.7))
    chest, limb = sign(), sign()
    voltage = lognormal(0.20) * (1 + 0.4 * hypertrophy)
    qrs_gain = np.stack(
        [
            voltage * lognormal(0.12) * (1 - 0.12 * limb),
            voltage * lognormal(0.25) * np.clip(1 - 0.35 * limb, 0.2, 1),
            voltage * lognormal(0.15) * (1 + 0.30 * chest),
        ],
        axis=1,
    )
    # Healthy people lack the r in V2 too, by a high electrode or a turned heart.
    septal_gain = lognormal(0.30) * np.clip(1 - 0.80 * sign() - 0.6 * happens(0.05), 0, 1)
    septal_gain = np.where(left_block, 0.15 * septal_gain, septal_gain)

    lateral = normal(1.0, 0.30) - 0.95 * sign() - strain
    lateral = np.where(left_block, -0.5 * np.abs(lateral) - 0.3, lateral)
    t_size = lognormal(0.25)
    t_gain = t_size[:, None] * np.stack([lateral, 0.3 + 0.7 * lateral, normal(1.0, 0.25)], axis=1)

    frontal = normal(14, 16) - 5 * older - 12 * sign() - 12 * left_block
    horizontal, repolarization = normal(0, 12), normal(0, 10)
    ectopic_horizontal = np.where(happens(0.6), 35, -140) + normal(0, 15)
    return Patients(
        heart_rate_bpm=rate,
        rate_variability=0.035 * lognormal(0.4) / (1 + illness),
        fibrillates=fibrillates,
        ectopy=extrasystoles * np.clip(0.09 * lognormal(0.5), 0.02, 0.3),
        pr_stretch=np.clip(normal(1.0, 0.08) + 0.02 * older + 0.06 * sign(), 0.85, 1.4),
        qrs_stretch=qrs_stretch,
        qt_stretch=np.clip(normal(1.06, 0.05) + 0.06 * sign(), 0.9, 1.4),
        p_gain=1.3 * lognormal(0.2),
        septal_gain=septal_gain,
        terminal_gain=right_block * np.clip(normal(1.0, 0.2), 0.4, 1.6),
        qrs_gain=qrs_gain,
        t_gain=t_gain,
        qrs_rotation=rotation(1, horizontal + 20 * sign() + 15 * left_block) @ rotation(2, frontal),
        t_rotation=rotation(1, 0.5 * horizontal + repolarization) @ rotation(2, 0.5 * frontal),
        ectopic_rotation=rotation(1, ectopic_horizontal) @ rotation(2, normal(0, 50)),
        lead_vectors=place_electrodes(np.tile(DOWER, (lvef.size, 1, 1)), 0.25, draws),
    )


def visit(patients: Patients, rng: np.random.Generator) -> Patients:
    """The same patients on another day: another rate, electrodes placed a little differently, the heart turned."""
    draws = iter(rng.standard_normal((len(patients), VISIT_DRAWS)).T)
    values = {item.name: getattr(patients, item.name) for item in fields(patients)}
    values["heart_rate_bpm"] = np.clip(patients.heart_rate_bpm * np.exp(0.07 * next(draws)), 40, 150)
    values["t_gain"] = patients.t_gain * np.exp(0.08 * next(draws))[:, None]
    lie = rotation(1, 4 * next(draws)) @ rotation(2, 5 * next(draws))
    values["qrs_rotation"], values["t_rotation"] = lie @ patients.qrs_rotation, lie @ patients.t_rotation
    values["lead_vectors"] = place_electrodes(patients.lead_vectors, 0.12, draws)
    return Patients(**values)


def place_electrodes(lead_vectors: np.ndarray, distance: float, draws: Iterator[np.ndarray]) -> np.ndarray:
    """Moves chest electrodes along their row by about `distance` of the way to the next, and scatters all by a little.

    Args:
        lead_vectors: `(n, 8, 3)`.
        distance: standard deviation of the shift, in gaps between electrodes.
        draws: rows of `(n,)` normal deviates; takes 15.
    """
    moved = lead_vectors.copy()
    # One shift for the whole row, as when a nurse starts at another rib, and one for each electrode.
    row = next(draws)
    chest = lead_vectors[:, 2:]
    toward_v6 = np.concatenate([chest[:, 1:], 2 * chest[:, -1:] - chest[:, -2:-1]], axis=1) - chest
    toward_v1 = chest - np.concatenate([2 * chest[:, :1] - chest[:, 1:2], chest[:, :-1]], axis=1)
    for electrode in range(6):
        shift = distance * (0.7 * row + 0.7 * next(draws))[:, None]
        moved[:, 2 + electrode] += np.maximum(shift, 0) * toward_v6[:, electrode]
        moved[:, 2 + electrode] += np.minimum(shift, 0) * toward_v1[:, electrode]
    for lead in range(8):
        moved[:, lead] *= np.exp(0.3 * distance * next(draws))[:, None]
    return moved
