"""What was understood of a file: format, leads, rate, length, amplitudes, and what is doubtful about them."""

import os
import sys
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from keras_ecg_mae import spec
from keras_ecg_mae.config import Quality
from keras_ecg_mae.errors import RecordingError
from keras_ecg_mae.recordings.conform import conform, known_lead_rows, limb_lead, ten_seconds
from keras_ecg_mae.recordings.findings import Finding, assess_recording, reject
from keras_ecg_mae.recordings.leads_and_units import LIMB_LEADS, lead_names
from keras_ecg_mae.recordings.recording import Recording
from keras_ecg_mae.recordings.source import split_record_path


@dataclass(frozen=True)
class Inspection:
    """A recording as it was read, and what would become of it.

    Attributes:
        recording: as the device stored it.
        leads_mv: `(samples,)` millivolts by lead, first the recorded ones in their order, then those that two limb
            leads give; a lead of the contract has its name there, others the file's.
        findings: of the 10 s that are taken of it.
        start_s: where the 10 s that are taken begin.
        refusal: why `prepare` and `predict` would refuse it; None where they take it.
        page_mv: `(12, 5000)` millivolts, the 10 s that are taken as `spec` orders them: `conform`'s result, or without
            one what there is of it, NaN elsewhere.
    """

    recording: Recording
    leads_mv: dict[str, np.ndarray]
    findings: tuple[Finding, ...]
    start_s: float
    refusal: str | None
    page_mv: np.ndarray

    @property
    def peak_to_peak_mv(self) -> dict[str, float | None]:
        """The whole recording's range by lead; None where no sample is a number."""
        return {lead: _range_mv(row) for lead, row in self.leads_mv.items()}

    def as_json(self) -> dict[str, Any]:
        """Everything but the samples, as plain data."""
        recording = self.recording
        return {
            "path": recording.path,
            "format": recording.format,
            "leads": list(recording.leads),
            "sampling_rate_hz": recording.sampling_rate_hz,
            "samples": recording.ecg_mv.shape[1],
            "peak_to_peak_mv": self.peak_to_peak_mv,
            "findings": [asdict(finding) for finding in self.findings],
        }

    def as_text(self) -> str:
        """Several lines for a person."""
        recording = self.recording
        samples = recording.ecg_mv.shape[1]
        recorded, derived = list(self.leads_mv)[: len(recording.leads)], list(self.leads_mv)[len(recording.leads) :]
        lines = [
            printable(recording.path),
            f"  format       {recording.format}",
            f"  leads        {' '.join(map(printable, recording.leads))}",
            f"  sampling     {recording.sampling_rate_hz:g} Hz, {samples:,} samples, "
            f"{samples / recording.sampling_rate_hz:.3f} s",
            f"  range in mV  {self._ranges(recorded)}",
        ]
        if derived:
            lines.append(f"  derived, mV  {self._ranges(derived)}")
        lines.append(f"  usable       {'yes' if self.refusal is None else 'no: ' + self.refusal}")
        lines += [
            f"  finding      {finding.code}{f', lead {finding.lead}' if finding.lead else ''}: {finding.detail}"
            for finding in self.findings
        ]
        return "\n".join(lines)

    def page_title(self) -> str:
        """The file's name, and how it was recorded."""
        recording = self.recording
        seconds = recording.ecg_mv.shape[1] / recording.sampling_rate_hz
        file, record_id = split_record_path(recording.path)
        name = printable(os.path.basename(file) + ("" if record_id is None else f"#{record_id}"))
        taken = f", from {self.start_s:.2f} s on" if seconds > spec.DURATION_S else ""
        return f"{name}    {recording.format}, {recording.sampling_rate_hz:g} Hz, {seconds:.2f} s{taken}"

    def page_note(self) -> str:
        """The findings in a line: each kind once, with its leads."""
        leads: dict[str, list[str]] = {}
        for finding in self.findings:
            leads.setdefault(finding.code, []).extend([finding.lead] if finding.lead else [])
        return ";  ".join(" ".join([code.replace("_", " "), *names]) for code, names in leads.items())

    def _ranges(self, leads: list[str]) -> str:
        ranges_mv = self.peak_to_peak_mv
        shown = {lead: "-" if ranges_mv[lead] is None else f"{ranges_mv[lead]:.3g}" for lead in leads}
        return "  ".join(f"{printable(lead)} {value}" for lead, value in shown.items())


@np.errstate(all="ignore")  # absurd amplitudes overflow
def inspect_recording(
    recording: Recording,
    quality: Quality,
    *,
    long_recordings: Literal["first", "middle", "refuse"] = "first",
    max_flat_leads: int = 0,
) -> Inspection:
    """Looks at a recording as `prepare` with the same settings would take it.

    Raises:
        RecordingError: `leads`, one is named twice, so that nothing can be said of it.
    """
    known_lead_rows(recording)
    leads_mv: dict[str, np.ndarray] = {}
    for name, lead, row_mv in zip(recording.leads, lead_names(recording.leads), recording.ecg_mv, strict=True):
        # Channels that are no leads may share a name, or have none.
        same = sum(other.split(" #")[0] == (lead or name) for other in leads_mv)
        leads_mv[f"{lead or name} #{same + 1}" if same else lead or name] = row_mv
    pair = [lead for lead in LIMB_LEADS if lead in leads_mv][:2]
    if len(pair) == 2:
        pair_mv = np.stack([leads_mv[lead] for lead in pair])
        leads_mv |= {lead: limb_lead(lead, pair, pair_mv) for lead in LIMB_LEADS if lead not in leads_mv}
    findings = assess_recording(recording, quality, long_recordings)
    rate_hz = recording.sampling_rate_hz
    start, length = ten_seconds(recording.ecg_mv.shape[1], spec.SAMPLING_RATE_HZ / rate_hz, long_recordings)
    refusal = None
    try:
        page_mv = conform(recording, long_recordings=long_recordings, max_flat_leads=max_flat_leads)
        reject(recording.path, findings, quality)
    except RecordingError as error:
        refusal = error.detail
        page_mv = _what_there_is({lead: row[start : start + length] for lead, row in leads_mv.items()}, rate_hz)
    return Inspection(recording, leads_mv, findings, start / rate_hz, refusal, page_mv)


def printable(text: str) -> str:
    """A name out of a file, or of one, without what would move a terminal's cursor or cannot be encoded."""
    return text if text.isprintable() else text.encode("unicode_escape", "backslashreplace").decode()


@np.errstate(over="ignore")
def _range_mv(lead_mv: np.ndarray) -> float | None:
    numbers_mv = lead_mv[np.isfinite(lead_mv)]
    if numbers_mv.size == 0:
        return None
    # JSON has no infinity, and what lies beyond nine digits is rounding.
    return float(f"{min(np.ptp(numbers_mv), sys.float_info.max):.9g}")


def _what_there_is(leads_mv: dict[str, np.ndarray], sampling_rate_hz: float) -> np.ndarray:
    """The 10 s of a recording that does not conform, for the eye: a line through its samples, unfiltered."""
    page_mv = np.full((len(spec.LEADS), spec.SAMPLES), np.nan)
    page_s = np.arange(spec.SAMPLES) / spec.SAMPLING_RATE_HZ
    for row, lead in enumerate(spec.LEADS):
        if lead in leads_mv:
            end_s = leads_mv[lead].size / sampling_rate_hz
            recorded_s = np.arange(leads_mv[lead].size) / sampling_rate_hz
            page_mv[row] = np.where(page_s < end_s, np.interp(page_s, recorded_s, leads_mv[lead]), np.nan)
    return page_mv
