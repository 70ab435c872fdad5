"""What is doubtful about a recording's signal. Nothing is mended, and nothing refused unless the settings say so.

What is looked for is what reviewers and rules of the PhysioNet/CinC Challenge 2011 rejected ECGs for (Silva et al.,
Comput Cardiol 2011;38:273; Johannesen and Galeotti, Physiol Meas 2012;33:1479; Hayn et al., Physiol Meas 2012;33:1449),
and the lead switches of Kligfield et al., Circulation 2007;115:1306. They judged by eye or trained a classifier:
the thresholds, in `config.Quality`, are distances on paper (1 mm is 0.1 mV) unless a comment here says otherwise.
"""

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache, reduce

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from scipy.fft import rfft, rfftfreq

from keras_ecg_mae import spec
from keras_ecg_mae.config import FINDINGS, Quality
from keras_ecg_mae.errors import RecordingError
from keras_ecg_mae.recordings.conform import LOWEST_SAMPLING_RATE_HZ, known_lead_rows, limb_lead, ten_seconds
from keras_ecg_mae.recordings.leads_and_units import LIMB_LEADS
from keras_ecg_mae.recordings.quality import FLAT_PEAK_TO_PEAK_MV, LARGEST_PEAK_MV, SMALLEST_PEAK_TO_PEAK_MV
from keras_ecg_mae.recordings.recording import Recording
from keras_ecg_mae.recordings.swapped_limb_leads import swapped_limb_leads

# A lead that fell off is looked for in whole pieces, of which the stretch's edges cost it two at most.
FLAT_PIECE_S = 0.125
# Johannesen and Galeotti: saturation is a level held at the extreme. A peak that was sampled twice holds none.
SHORTEST_CLIPPING = 3
# A supply's frequency keeps to 0.2 Hz, a spectral line of 10 s is 0.2 Hz wide to either side; what QRS complexes and
# muscles add is told from the spectrum beside it. Of less than 4 s the two cannot be told apart.
MAINS_HZ, MAINS_HALF_WIDTH_HZ, BESIDE_MAINS_HZ, SHORTEST_FOR_MAINS_S = (50.0, 60.0), 0.5, (1.0, 4.0), 4.0
# Baseline wander lies below 0.5 Hz, a heart's own rate above (Kligfield et al.; De Pinto, J Electrocardiol
# 1992;25 Suppl:40). A median over a second leaves QRS complexes and T waves out, as the median filters of de Chazal et
# al., IEEE Trans Biomed Eng 2004;51:1196, do. It is taken of means of 40 ms, two times a second.
WANDER_MEDIAN_S, WANDER_STEP_S, WANDER_MEAN_S = 1.0, 0.5, 0.04
# Kligfield et al. recall Einthoven's law; it holds at each instant, so that steps of the devices' resolution are all
# that is left of it. One sample in a hundred may be a converter's slip.
EINTHOVEN_PERCENTILE = 99

_ORDER = {word: place for place, word in enumerate((*FINDINGS, *spec.LEADS))}


@dataclass(frozen=True)
class Finding:
    """One thing that is doubtful.

    Attributes:
        code: one of `config.FINDINGS`.
        lead: in the contract's spelling; None where it is about the recording.
        value: what was measured.
        detail: one sentence with the value's unit.
    """

    code: str
    lead: str | None
    value: float
    detail: str


def assess_recording(recording: Recording, quality: Quality, long_recordings: str = "first") -> tuple[Finding, ...]:
    """What is found in the 10 s that `conform` takes, or in all of a shorter recording. `RecordingError` `leads`."""
    rows = known_lead_rows(recording)
    rate_hz = recording.sampling_rate_hz
    start, length = ten_seconds(recording.ecg_mv.shape[1], spec.SAMPLING_RATE_HZ / rate_hz, long_recordings)
    return assess(recording.ecg_mv[list(rows.values()), start : start + length], tuple(rows), rate_hz, quality)


def reject(path: str, findings: tuple[Finding, ...], quality: Quality) -> None:
    """Raises `RecordingError` `quality` for the first of the findings that the settings reject."""
    for finding in findings:
        if finding.code in quality.reject:
            where = f"{finding.code} in lead {finding.lead}" if finding.lead else finding.code
            raise RecordingError(
                path, "quality", f"Expected none of --quality_reject. Received {where}: {finding.detail}"
            )


def assess(
    ecg_mv: np.ndarray, leads: tuple[str, ...], sampling_rate_hz: float, quality: Quality
) -> tuple[Finding, ...]:
    """Everything that is found, in the order of `config.FINDINGS` and the contract's leads.

    Args:
        ecg_mv: `(leads, samples)` millivolts, as they were recorded: neither derived nor resampled. The thresholds are
            meant for 10 s.
        leads: their names, as the contract spells them; others are not looked at.
        sampling_rate_hz: samples a second.
        quality: the thresholds.
    """
    names = tuple(lead for lead in spec.LEADS if lead in leads)
    rows_mv = np.asarray(ecg_mv, np.float64)
    if names != leads:
        rows_mv = rows_mv[[leads.index(lead) for lead in names]]
    samples = rows_mv.shape[1]
    findings = [*_too_short(samples, sampling_rate_hz), *_absent(names)]
    no_numbers = samples - np.count_nonzero(np.isfinite(rows_mv), axis=1)
    measured = []
    for row, lead in enumerate(names):
        bad = int(no_numbers[row])
        if bad == samples:
            findings.append(Finding("missing_lead", lead, 0.0, "None of its samples is a number."))
        elif bad:
            findings.append(Finding("not_finite", lead, float(bad), f"{bad} of {samples} samples are no numbers."))
        elif not rows_mv[row].any():
            findings.append(Finding("missing_lead", lead, 0.0, "All its samples are zero."))
        else:
            measured.append(row)
    if measured:
        if len(measured) < len(names):
            rows_mv, names = rows_mv[measured], tuple(names[row] for row in measured)
        with np.errstate(all="ignore"):  # absurd amplitudes overflow, and are found to be absurd
            findings += _signal(rows_mv, list(names), sampling_rate_hz, quality)
    return tuple(sorted(findings, key=lambda finding: (_ORDER[finding.code], _ORDER.get(finding.lead or "", -1))))


def _signal(rows_mv: np.ndarray, names: list[str], sampling_rate_hz: float, quality: Quality) -> Iterator[Finding]:
    """What is found in leads of numbers that are not all zero."""
    highest_mv, lowest_mv = rows_mv.max(axis=1), rows_mv.min(axis=1)
    ranges_mv = np.minimum(highest_mv - lowest_mv, sys.float_info.max)
    if 0 < ranges_mv.max() < SMALLEST_PEAK_TO_PEAK_MV:
        largest_mv = float(ranges_mv.max())
        yield Finding("amplitude", None, largest_mv, f"No lead spans more than {largest_mv:.3g} mV: are they volts?")
        return
    yield from _flat(rows_mv, names, ranges_mv, sampling_rate_hz, quality)
    for lead, range_mv in zip(names, ranges_mv, strict=True):
        if range_mv > quality.largest_mv or FLAT_PEAK_TO_PEAK_MV <= range_mv < quality.smallest_mv:
            yield Finding(
                "amplitude",
                lead,
                float(range_mv),
                f"{range_mv:.4g} mV from peak to peak, where {quality.smallest_mv:g} to {quality.largest_mv:g} mV are "
                "expected.",
            )
    # Of a constant, and of microvolts read as millivolts, nothing else is worth saying.
    kept = (ranges_mv >= FLAT_PEAK_TO_PEAK_MV) & (ranges_mv <= 2 * LARGEST_PEAK_MV)
    if not kept.all():
        rows_mv, names = rows_mv[kept], [lead for lead, keep in zip(names, kept, strict=True) if keep]
    if names:
        yield from _clipping(rows_mv, names, highest_mv[kept], lowest_mv[kept], quality)
        yield from _mains_hum(rows_mv, names, sampling_rate_hz, quality)
        yield from _baseline_wander(rows_mv, names, sampling_rate_hz, quality)
        leads_mv = dict(zip(names, rows_mv, strict=True))
        pair = [lead for lead in ("I", "III", "II") if lead in leads_mv][:2]
        if len(pair) == 2:
            yield from _einthoven(leads_mv, pair, quality)
            yield from _swapped_limb_leads(leads_mv, pair, sampling_rate_hz, quality)


def _too_short(samples: int, sampling_rate_hz: float) -> Iterator[Finding]:
    if samples < ten_seconds(samples, spec.SAMPLING_RATE_HZ / sampling_rate_hz, "first")[1]:
        seconds = _seconds(samples, sampling_rate_hz)
        yield Finding("too_short", None, seconds, f"{seconds:.3f} s, of the {spec.DURATION_S:g} s that are taken.")


def _absent(names: tuple[str, ...]) -> Iterator[Finding]:
    derivable = LIMB_LEADS if sum(lead in LIMB_LEADS for lead in names) >= 2 else ()
    for lead in spec.LEADS:
        if lead not in names and lead not in derivable:
            yield Finding("missing_lead", lead, 0.0, "It was not recorded, and follows from no others.")


def _flat(
    rows_mv: np.ndarray, names: list[str], ranges_mv: np.ndarray, sampling_rate_hz: float, quality: Quality
) -> Iterator[Finding]:
    """Hayn et al.: an empty lead. One that falls off on the way is flat for a while."""
    samples = rows_mv.shape[1]
    width = max(1, round(FLAT_PIECE_S * sampling_rate_hz))
    needed = max(1, round(quality.flat_s * sampling_rate_hz / width))
    stretches_mv = np.full((len(names), 1), np.inf)
    if samples >= needed * width:
        pieces = rows_mv[:, : samples // width * width].reshape(len(names), -1, width)
        highest_mv, lowest_mv = pieces.max(axis=2), pieces.min(axis=2)
        starts = highest_mv.shape[1] - needed + 1
        stretches_mv = reduce(np.maximum, (highest_mv[:, place : place + starts] for place in range(needed)))
        stretches_mv = stretches_mv - reduce(
            np.minimum, (lowest_mv[:, place : place + starts] for place in range(needed))
        )
    for row, lead in enumerate(names):
        if ranges_mv[row] < FLAT_PEAK_TO_PEAK_MV:
            seconds = _seconds(samples, sampling_rate_hz)
        elif stretches_mv[row].min() < FLAT_PEAK_TO_PEAK_MV:
            longest = _runs(stretches_mv[row] < FLAT_PEAK_TO_PEAK_MV).max()
            seconds = _seconds(float(longest + needed - 1) * width, sampling_rate_hz)
        else:
            continue
        yield Finding("flat_lead", lead, seconds, f"Constant to {FLAT_PEAK_TO_PEAK_MV:g} mV for {seconds:.2f} s.")


def _clipping(
    rows_mv: np.ndarray, names: list[str], highest_mv: np.ndarray, lowest_mv: np.ndarray, quality: Quality
) -> Iterator[Finding]:
    """The end of the converter's or the amplifier's range, beat after beat or once for long."""
    samples = rows_mv.shape[1]
    at_ends = (rows_mv == highest_mv[:, None]) | (rows_mv == lowest_mv[:, None])
    for row in np.flatnonzero(np.count_nonzero(at_ends, axis=1) >= quality.clipping_share * samples):
        # The nearer end of a lead that points one way is its baseline, which may well be level.
        middle_mv = np.median(rows_mv[row])
        far_mv = max(highest_mv[row] - middle_mv, middle_mv - lowest_mv[row]) / 2
        runs = _runs(at_ends[row] & (np.abs(rows_mv[row] - middle_mv) >= far_mv))
        share = float(runs[runs >= SHORTEST_CLIPPING].sum() / samples)
        if share >= quality.clipping_share:
            detail = f"{share:.1%} of the samples lie level at the ends of its range."
            yield Finding("clipping", names[row], share, detail)


def _mains_hum(rows_mv: np.ndarray, names: list[str], sampling_rate_hz: float, quality: Quality) -> Iterator[Finding]:
    """A line in the spectrum (Levkov et al., BioMed Eng OnLine 2005;4:50), as the range of the wave that makes it."""
    samples = rows_mv.shape[1]
    mains = [hz for hz in MAINS_HZ if hz + BESIDE_MAINS_HZ[1] < sampling_rate_hz / 2]
    if not mains or samples / sampling_rate_hz < SHORTEST_FOR_MAINS_S:
        return
    frequencies_hz, window = _spectrum(samples, sampling_rate_hz)
    first, last = np.searchsorted(frequencies_hz, (mains[0] - BESIDE_MAINS_HZ[1], mains[-1] + BESIDE_MAINS_HZ[1]))
    centred_mv = (rows_mv - rows_mv.mean(axis=1, keepdims=True)).astype(np.float32)
    spectrum = rfft(centred_mv * window, axis=1)[:, first:last]
    # So scaled, the bins that a sine's line covers add up to its amplitude's square (Parseval).
    power = (spectrum.real**2 + spectrum.imag**2) * (4 / samples / float(window @ window))
    for hz in mains:
        apart = np.abs(frequencies_hz[first:last] - hz)
        line, beside = apart <= MAINS_HALF_WIDTH_HZ, (apart >= BESIDE_MAINS_HZ[0]) & (apart <= BESIDE_MAINS_HZ[1])
        excess = power[:, line].sum(axis=1) - power[:, beside].mean(axis=1) * np.count_nonzero(line)
        hums_mv = 2 * np.sqrt(np.maximum(excess, 0))
        for row in np.flatnonzero(hums_mv > quality.mains_hum_mv):
            detail = f"{hums_mv[row]:.3f} mV from peak to peak at {hz:g} Hz."
            yield Finding("mains_hum", names[row], float(hums_mv[row]), detail)


def _baseline_wander(
    rows_mv: np.ndarray, names: list[str], sampling_rate_hz: float, quality: Quality
) -> Iterator[Finding]:
    width = max(1, round(WANDER_MEAN_S * sampling_rate_hz))
    count = rows_mv.shape[1] // width
    length, step = (max(1, round(seconds * sampling_rate_hz / width)) for seconds in (WANDER_MEDIAN_S, WANDER_STEP_S))
    if count < length:
        return
    means_mv = rows_mv[:, : count * width].reshape(len(names), count, width).mean(axis=2)
    baselines_mv = np.median(sliding_window_view(means_mv, length, axis=1)[:, ::step], axis=2)
    moves_mv = np.ptp(baselines_mv, axis=1)
    for row in np.flatnonzero(moves_mv > quality.baseline_wander_mv):
        detail = f"The baseline moves by {moves_mv[row]:.2f} mV."
        yield Finding("baseline_wander", names[row], float(moves_mv[row]), detail)


def _einthoven(leads_mv: dict[str, np.ndarray], pair: Sequence[str], quality: Quality) -> Iterator[Finding]:
    """Einthoven's and Goldberger's laws: what two of I, II and III make of the other limb leads that were recorded."""
    pair_mv = np.stack([leads_mv[lead] for lead in pair])
    for lead in LIMB_LEADS:
        if lead not in leads_mv or lead in pair:
            continue
        apart_mv = leads_mv[lead] - limb_lead(lead, pair, pair_mv)
        if np.ptp(apart_mv) <= quality.einthoven_mv:  # nearly always; no distance from the median is larger
            continue
        value = float(np.percentile(np.abs(apart_mv - np.median(apart_mv)), EINTHOVEN_PERCENTILE))
        if value > quality.einthoven_mv:
            law = "I + III" if lead == "II" else f"what {' and '.join(sorted(pair))} make of it"
            yield Finding("einthoven", lead, value, f"{value:.3f} mV apart from {law}.")


def _swapped_limb_leads(
    leads_mv: dict[str, np.ndarray], pair: Sequence[str], sampling_rate_hz: float, quality: Quality
) -> Iterator[Finding]:
    if not {"V5", "V6"} <= set(leads_mv) or sampling_rate_hz < LOWEST_SAMPLING_RATE_HZ:
        return
    pair_mv = np.stack([leads_mv[lead] for lead in pair])
    seen_mv = [limb_lead("I", pair, pair_mv), limb_lead("II", pair, pair_mv), leads_mv["V5"], leads_mv["V6"]]
    swap = swapped_limb_leads(np.stack(seen_mv), sampling_rate_hz, quality)
    if swap is not None:
        detail = f"The electrodes of {swap.electrodes} seem exchanged: {swap.evidence}."
        yield Finding("swapped_limb_leads", swap.lead, swap.value, detail)


def _seconds(samples: float, sampling_rate_hz: float) -> float:
    return min(samples / sampling_rate_hz, sys.float_info.max)


def _runs(at: np.ndarray) -> np.ndarray:
    """How long each run of true values is."""
    ends = np.flatnonzero(np.diff(at.astype(np.int8), prepend=0, append=0))
    return ends[1::2] - ends[::2]


@lru_cache(maxsize=8)
def _spectrum(samples: int, sampling_rate_hz: float) -> tuple[np.ndarray, np.ndarray]:
    """The frequencies of a spectrum in Hz, and the window to take it with."""
    return rfftfreq(samples, 1 / sampling_rate_hz), np.hanning(samples).astype(np.float32)
