"""What is doubtful about a recording's signal. Nothing is mended, and nothing refused unless the settings say so.

What is looked for is what reviewers and rules of the PhysioNet/CinC Challenge 2011 rejected ECGs for (Silva et al.,
Comput Cardiol 2011;38:273; Johannesen and Galeotti, Physiol Meas 2012;33:1479; Hayn et al., Physiol Meas 2012;33:1449),
and the lead switches of Kligfield et al., Circulation 2007;115:1306. They judged by eye or trained a classifier:
the thresholds, in `config.Quality`, are distances on paper (1 mm is 0.1 mV) unless a comment here says otherwise.

`CHECKS` is the table of what is measured lead by lead.
"""

import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache, partial

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from scipy.fft import rfft, rfftfreq

from keras_ecg_mae import spec
from keras_ecg_mae.config import FINDINGS, Quality
from keras_ecg_mae.errors import RecordingError
from keras_ecg_mae.recordings.conform import known_lead_rows, limb_lead, ten_seconds
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
MAINS_BAND_HZ, MAINS_HALF_WIDTH_HZ, BESIDE_MAINS_HZ, SHORTEST_FOR_MAINS_S = (46.0, 64.0), 0.5, (1.0, 4.0), 4.0
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


@dataclass(frozen=True)
class Signal:
    """Leads of numbers: names in the contract's order, `rows_mv` `(leads, samples)`, and samples a second."""

    names: tuple[str, ...]
    rows_mv: np.ndarray
    rate_hz: float

    def only(self, kept: np.ndarray) -> "Signal":
        """The leads for which `kept` `(leads,)` is true."""
        if kept.all():
            return self
        names = tuple(name for name, keep in zip(self.names, kept, strict=True) if keep)
        return Signal(names, self.rows_mv[kept], self.rate_hz)

    @cached_property
    def ranges_mv(self) -> np.ndarray:
        """`(leads,)` from peak to peak; JSON has no infinity."""
        return np.minimum(np.ptp(self.rows_mv, axis=1), sys.float_info.max)

    @cached_property
    def spectrum(self) -> tuple[np.ndarray, np.ndarray]:
        """Frequencies in Hz near the mains', `(bins,)`, and power, `(leads, bins)`.

        The bins that a sine's line covers add up to its amplitude's square (Parseval).
        """
        samples = self.rows_mv.shape[1]
        frequencies_hz, window = _frequencies_and_window(samples, self.rate_hz)
        centred_mv = (self.rows_mv - self.rows_mv.mean(axis=1, keepdims=True)).astype(np.float32)
        around = (frequencies_hz >= MAINS_BAND_HZ[0]) & (frequencies_hz < MAINS_BAND_HZ[1])
        spectrum = rfft(centred_mv * window, axis=1)[:, around]
        return frequencies_hz[around], (spectrum.real**2 + spectrum.imag**2) * (4 / samples / float(window @ window))


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


@np.errstate(all="ignore")  # absurd amplitudes overflow, and are found to be absurd
def assess(
    ecg_mv: np.ndarray, leads: tuple[str, ...], sampling_rate_hz: float, quality: Quality
) -> tuple[Finding, ...]:
    """Everything that is found, in the order of `config.FINDINGS` and the contract's leads.

    Args:
        ecg_mv: `(leads, samples)` millivolts, as they were recorded: neither derived nor resampled. The thresholds are
            meant for 10 s.
        leads: their names, as the contract spells them and in its order.
        sampling_rate_hz: samples a second.
        quality: the thresholds.
    """
    recorded = Signal(leads, ecg_mv, sampling_rate_hz)
    findings = list(_without_signal(recorded))
    without = {finding.lead for finding in findings}
    signal = recorded.only(np.array([lead not in without for lead in leads], bool))
    if signal.names:
        findings += _in_signal(signal, quality)
    return tuple(sorted(findings, key=lambda finding: (_ORDER[finding.code], _ORDER.get(finding.lead or "", -1))))


def _without_signal(signal: Signal) -> Iterator[Finding]:
    """Too short a recording, and leads of which nothing can be measured."""
    samples = signal.rows_mv.shape[1]
    if samples < ten_seconds(samples, spec.SAMPLING_RATE_HZ / signal.rate_hz, "first")[1]:
        seconds = samples / signal.rate_hz
        yield Finding("too_short", None, seconds, f"{seconds:.3f} s, of the {spec.DURATION_S:g} s that are taken.")
    derivable = LIMB_LEADS if sum(lead in LIMB_LEADS for lead in signal.names) >= 2 else ()
    for lead in spec.LEADS:
        if lead not in signal.names and lead not in derivable:
            yield Finding("missing_lead", lead, 0.0, "It was not recorded, and follows from no others.")
    no_numbers = np.count_nonzero(~np.isfinite(signal.rows_mv), axis=1).tolist()
    for lead, row_mv, bad in zip(signal.names, signal.rows_mv, no_numbers, strict=True):
        if bad == samples:
            yield Finding("missing_lead", lead, 0.0, "None of its samples is a number.")
        elif bad:
            yield Finding("not_finite", lead, float(bad), f"{bad} of {samples} samples are no numbers.")
        elif not row_mv.any():
            yield Finding("missing_lead", lead, 0.0, "All its samples are zero.")


def _in_signal(signal: Signal, quality: Quality) -> Iterator[Finding]:
    largest_mv = float(signal.ranges_mv.max())
    if 0 < largest_mv < SMALLEST_PEAK_TO_PEAK_MV:
        yield Finding("amplitude", None, largest_mv, f"No lead spans more than {largest_mv:.3g} mV: are they volts?")
        return
    yield from FLAT.findings(signal, quality)
    expected = f"where {quality.smallest_mv:g} to {quality.largest_mv:g} mV are expected"
    for lead, range_mv in zip(signal.names, signal.ranges_mv.tolist(), strict=True):
        if range_mv > quality.largest_mv or FLAT_PEAK_TO_PEAK_MV <= range_mv < quality.smallest_mv:
            yield Finding("amplitude", lead, range_mv, f"{range_mv:.4g} mV from peak to peak, {expected}.")
    # Of a constant, and of microvolts read as millivolts, nothing else is worth saying.
    signal = signal.only((signal.ranges_mv >= FLAT_PEAK_TO_PEAK_MV) & (signal.ranges_mv <= 2 * LARGEST_PEAK_MV))
    if not signal.names:
        return
    for check in CHECKS:
        yield from check.findings(signal, quality)
    leads_mv = dict(zip(signal.names, signal.rows_mv, strict=True))
    pair = [lead for lead in ("I", "III", "II") if lead in leads_mv][:2]
    if len(pair) == 2:
        yield from _einthoven(leads_mv, pair, quality)
        swap = swapped_limb_leads(leads_mv, pair, signal.rate_hz, quality)
        if swap is not None:
            yield Finding("swapped_limb_leads", *swap)


def _flat_s(signal: Signal, quality: Quality) -> np.ndarray:
    """Hayn et al.: an empty lead. One that falls off on the way is flat for a while."""
    leads, samples = signal.rows_mv.shape
    width = max(1, round(FLAT_PIECE_S * signal.rate_hz))
    needed = max(1, round(quality.flat_s * signal.rate_hz / width))
    flat_s = np.zeros(leads)
    if samples >= needed * width:
        pieces = signal.rows_mv[:, : samples // width * width].reshape(leads, -1, width)
        highest_mv = sliding_window_view(pieces.max(axis=2), needed, axis=1).max(axis=2)
        lowest_mv = sliding_window_view(pieces.min(axis=2), needed, axis=1).min(axis=2)
        flat = highest_mv - lowest_mv < FLAT_PEAK_TO_PEAK_MV
        for row in np.flatnonzero(flat.any(axis=1)):
            flat_s[row] = (_runs(flat[row]).max() + needed - 1) * width / signal.rate_hz
    return np.where(signal.ranges_mv < FLAT_PEAK_TO_PEAK_MV, samples / signal.rate_hz, flat_s)


def _clipped_share(signal: Signal, quality: Quality) -> np.ndarray:
    """The end of the converter's or the amplifier's range, beat after beat or once for long."""
    highest_mv, lowest_mv = signal.rows_mv.max(axis=1), signal.rows_mv.min(axis=1)
    at_ends = (signal.rows_mv == highest_mv[:, None]) | (signal.rows_mv == lowest_mv[:, None])
    fewest = quality.clipping_share * signal.rows_mv.shape[1]
    shares = np.zeros(len(signal.names))
    for row in np.flatnonzero(np.count_nonzero(at_ends, axis=1) >= fewest):
        # The nearer end of a lead that points one way is its baseline, which may well be level.
        row_mv, middle_mv = signal.rows_mv[row], np.median(signal.rows_mv[row])
        far_mv = max(highest_mv[row] - middle_mv, middle_mv - lowest_mv[row]) / 2
        runs = _runs(at_ends[row] & (np.abs(row_mv - middle_mv) >= far_mv))
        shares[row] = runs[runs >= SHORTEST_CLIPPING].sum() / row_mv.size
    return np.where(shares >= quality.clipping_share, shares, 0.0)


def _hum_mv(signal: Signal, _: Quality, mains_hz: float) -> np.ndarray:
    """A line in the spectrum (Levkov et al., BioMed Eng OnLine 2005;4:50), as the range of the wave that makes it."""
    seconds = signal.rows_mv.shape[1] / signal.rate_hz
    if seconds < SHORTEST_FOR_MAINS_S or mains_hz + BESIDE_MAINS_HZ[1] >= signal.rate_hz / 2:
        return np.zeros(len(signal.names))
    frequencies_hz, power = signal.spectrum
    apart = np.abs(frequencies_hz - mains_hz)
    line, beside = apart <= MAINS_HALF_WIDTH_HZ, (apart >= BESIDE_MAINS_HZ[0]) & (apart <= BESIDE_MAINS_HZ[1])
    excess = power[:, line].sum(axis=1) - power[:, beside].mean(axis=1) * np.count_nonzero(line)
    hums_mv: np.ndarray = 2 * np.sqrt(np.maximum(excess, 0))
    return hums_mv


def _wander_mv(signal: Signal, _: Quality) -> np.ndarray:
    leads, samples = signal.rows_mv.shape
    width = max(1, round(WANDER_MEAN_S * signal.rate_hz))
    count = samples // width
    length, step = (max(1, round(seconds * signal.rate_hz / width)) for seconds in (WANDER_MEDIAN_S, WANDER_STEP_S))
    if count < length:
        return np.zeros(leads)
    means_mv = signal.rows_mv[:, : count * width].reshape(leads, count, width).mean(axis=2)
    return np.ptp(np.median(sliding_window_view(means_mv, length, axis=1)[:, ::step], axis=2), axis=1)


@dataclass(frozen=True)
class Check:
    """What `measure` gives of each lead, `(leads,)`, is a finding above the setting `threshold`, or 0 without one."""

    code: str
    measure: Callable[[Signal, Quality], np.ndarray]
    threshold: str | None
    sentence: str

    def findings(self, signal: Signal, quality: Quality) -> Iterator[Finding]:
        threshold = getattr(quality, self.threshold) if self.threshold else 0.0
        for lead, value in zip(signal.names, self.measure(signal, quality).tolist(), strict=True):
            if value > threshold:
                yield Finding(self.code, lead, value, self.sentence.format(value))


FLAT = Check("flat_lead", _flat_s, None, f"Constant to {FLAT_PEAK_TO_PEAK_MV:g} mV for {{:.2f}} s.")
CHECKS = (
    Check("clipping", _clipped_share, None, "{:.1%} of the samples lie level at the ends of its range."),
    Check("mains_hum", partial(_hum_mv, mains_hz=50.0), "mains_hum_mv", "{:.3f} mV from peak to peak at 50 Hz."),
    Check("mains_hum", partial(_hum_mv, mains_hz=60.0), "mains_hum_mv", "{:.3f} mV from peak to peak at 60 Hz."),
    Check("baseline_wander", _wander_mv, "baseline_wander_mv", "The baseline moves by {:.2f} mV."),
)


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
            detail = f"{value:.3f} mV apart from what {' and '.join(sorted(pair))} make of it."
            yield Finding("einthoven", lead, value, detail)


def _runs(at: np.ndarray) -> np.ndarray:
    """How long each run of true values is."""
    ends = np.flatnonzero(np.diff(at.astype(np.int8), prepend=0, append=0))
    return ends[1::2] - ends[::2]


@lru_cache(maxsize=8)
def _frequencies_and_window(samples: int, sampling_rate_hz: float) -> tuple[np.ndarray, np.ndarray]:
    return rfftfreq(samples, 1 / sampling_rate_hz), np.hanning(samples).astype(np.float32)
