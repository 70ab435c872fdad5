"""Limb electrodes that were exchanged, told by what the exchange does to the averaged beat.

How leads change is algebra: Krasteva et al., 'Simulating Arbitrary Electrode Reversals in Standard 12-Lead ECG',
Sensors 2019;19:2920. Which of it no heart does of itself: Batchvarov et al., 'Incorrect electrode cable connection
during electrocardiographic recording', Europace 2007;9:1081. An exchange of left arm and left leg looks like another
healthy heart, and is not looked for.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import uniform_filter1d
from scipy.signal import find_peaks

from keras_ecg_mae.config import Quality
from keras_ecg_mae.recordings.conform import LOWEST_SAMPLING_RATE_HZ, limb_lead

# The beat is averaged at about this rate: polarity is asked for, not detail.
AVERAGED_HZ = 125
# From the beat's steepest moment: the stretch that is averaged, and where P wave and QRS complex lie in it.
BEAT_S, P_WAVE_S, QRS_S = (-0.30, 0.40), (-0.26, -0.07), (-0.07, 0.08)
# Beats are where leads are steeper, over 0.08 s, than 40% of what the steepest fiftieth of the recording is.
STEEP_S, STEEP_ENOUGH, REFRACTORY_S, FEWEST_BEATS = 0.08, 0.4, 0.3, 3
# An arm exchanged for the right leg, which is as good as the left one, leaves a lead between the two legs: II or III
# spans under 0.1 mV while the others do not (Haisty et al., Am J Cardiol 1993;71:1490).
BETWEEN_LEGS_MV, BESIDE_LEGS_MV, SMALL_SPAN = 0.1, 0.4, 0.1


def swapped_limb_leads(
    leads_mv: Mapping[str, np.ndarray], pair: Sequence[str], sampling_rate_hz: float, quality: Quality
) -> tuple[str, float, str] | None:
    """The exchange that a recording shows, or None.

    Only what P waves and chest leads bear out is told: nothing of a heart without P waves.

    Args:
        leads_mv: `(samples,)` millivolts of each lead.
        pair: two of I, II and III among them.
        sampling_rate_hz: samples a second.
        quality: the thresholds.

    Returns:
        the lead that shows it most, by which value, and a sentence.
    """
    width = max(1, round(sampling_rate_hz / AVERAGED_HZ))
    pair_mv = np.stack([leads_mv[lead] for lead in pair])
    count = pair_mv.shape[1] // width
    if not {"V5", "V6"} <= set(leads_mv) or sampling_rate_hz < LOWEST_SAMPLING_RATE_HZ or count < AVERAGED_HZ:
        return None
    seen_mv = np.stack([limb_lead("I", pair, pair_mv), limb_lead("II", pair, pair_mv), leads_mv["V5"], leads_mv["V6"]])
    slow_mv = seen_mv[:, : count * width].reshape(len(seen_mv), count, width).mean(axis=2)
    beat = averaged_beat(slow_mv, sampling_rate_hz / width) if _suspicious(slow_mv) else None
    if beat is None:
        return None

    def exchanged(electrodes: str, lead: str, value: float, evidence: str) -> tuple[str, float, str]:
        return lead, value, f"The electrodes of {electrodes} seem exchanged: its {evidence}."

    first, second, fifth, sixth = beat.waves_mv
    third, avr = second - first, -(first + second) / 2
    for lead, arm, between, beside in (
        ("II", "right arm", second, (first, third)),
        ("III", "left arm", third, (first, second)),
    ):
        span_mv = float(np.ptp(between))
        if span_mv < BETWEEN_LEGS_MV and min(np.ptp(wave) for wave in beside) > BESIDE_LEGS_MV:
            return exchanged(f"{arm} and right leg", lead, span_mv, f"beats span {span_mv:.3f} mV")

    correlation, p_wave_mv = quality.swap_correlation, quality.swap_p_wave_mv
    swaps = []
    # Right arm and left leg: II turns round, and aVR, now the left leg's, goes along with V6.
    against = max(beat.qrs_correlation(second, sixth), -beat.qrs_correlation(avr, sixth))
    if against < -correlation and beat.p_wave_mv(second) < -p_wave_mv and beat.p_wave_mv(avr) > p_wave_mv:
        evidence = f"QRS complexes correlate by {against:.2f} with V6"
        swaps.append(exchanged("right arm and left leg", "II", against, evidence))
    # Right and left arm: I turns round. It does so too where the heart lies on the right, but V6, which lies far from
    # such a heart, then has no upright P wave.
    against = max(beat.qrs_correlation(first, fifth), beat.qrs_correlation(first, sixth))
    if against < -correlation and beat.p_wave_mv(first) < -p_wave_mv and beat.p_wave_mv(sixth) > 0:
        evidence = f"QRS complexes correlate by {against:.2f} with V5 and V6"
        swaps.append(exchanged("right and left arm", "I", against, evidence))
    return min(swaps, key=lambda swap: swap[1], default=None)


@dataclass(frozen=True)
class Beat:
    """The median of all beats: `waves_mv` `(leads, samples)`, aligned at the steepest moment."""

    waves_mv: np.ndarray
    sampling_rate_hz: float

    def qrs_correlation(self, wave_mv: np.ndarray, other_mv: np.ndarray) -> float:
        """From -1 to 1: whether the QRS complexes of two leads point the same way."""
        wave_mv, other_mv = (part - part.mean() for part in (wave_mv[self._part(QRS_S)], other_mv[self._part(QRS_S)]))
        scale = np.sqrt((wave_mv @ wave_mv) * (other_mv @ other_mv))
        return float(wave_mv @ other_mv / scale) if scale > 0 else 0.0

    def p_wave_mv(self, wave_mv: np.ndarray) -> float:
        """How far the P wave reaches up, less how far down, from the line between its ends."""
        wave_mv = wave_mv[self._part(P_WAVE_S)]
        bend_mv = wave_mv - np.linspace(wave_mv[0], wave_mv[-1], wave_mv.size)
        return float(bend_mv.max() + bend_mv.min())

    def _part(self, seconds: tuple[float, float]) -> slice:
        first, last = (round((second - BEAT_S[0]) * self.sampling_rate_hz) for second in seconds)
        return slice(first, last)


def averaged_beat(slow_mv: np.ndarray, sampling_rate_hz: float) -> Beat | None:
    """The beat of `slow_mv` `(leads, samples)`, or None where there are fewer than three."""
    samples = slow_mv.shape[1]
    before, after = round(-BEAT_S[0] * sampling_rate_hz), round(BEAT_S[1] * sampling_rate_hz)
    if samples <= before + after:
        return None
    # Steep in any lead, over the length of a QRS complex.
    steepness = np.abs(np.diff(slow_mv, axis=1)).sum(axis=0)
    steepness = uniform_filter1d(steepness, max(1, round(STEEP_S * sampling_rate_hz)))
    height = STEEP_ENOUGH * float(np.partition(steepness, -(samples // 50) - 1)[-(samples // 50) - 1])
    peaks, _ = find_peaks(steepness, height=height, distance=max(1, round(REFRACTORY_S * sampling_rate_hz)))
    peaks = peaks[(peaks >= before) & (peaks < samples - after)]
    if peaks.size < FEWEST_BEATS:
        return None
    return Beat(np.median(slow_mv[:, peaks[:, None] + np.arange(-before, after)], axis=1), sampling_rate_hz)


def _suspicious(slow_mv: np.ndarray) -> bool:
    """Whether a closer look is worth its time: slopes, which are mostly those of QRS complexes, go apart."""
    first, second, _, sixth = np.diff(slow_mv, axis=1)
    spans = [float(slopes @ slopes) for slopes in (first, second, second - first)]
    return bool(first @ sixth < 0 or second @ sixth < 0 or min(spans) < SMALL_SPAN * max(spans))
