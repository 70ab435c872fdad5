"""What a reader returns: one recording as the device stored it, in millivolts."""

from dataclasses import dataclass

import numpy as np

from keras_ecg_mae.errors import RecordingError


@dataclass(frozen=True)
class Recording:
    """A multi-lead ECG.

    Attributes:
        path: the file it came from, as the user named it.
        leads: lead names as the file spells them, one a row of `ecg_mv`.
        sampling_rate_hz: samples a second of every lead.
        ecg_mv: `(leads, samples)` float64, millivolts. NaN where the file marks a sample as missing.
        format: the reader that decoded it, e.g. `"wfdb"`.

    Raises:
        RecordingError: names and rows disagree, there is no sample, or the rate is not positive.
    """

    path: str
    leads: tuple[str, ...]
    sampling_rate_hz: float
    ecg_mv: np.ndarray
    format: str

    def __post_init__(self) -> None:
        if self.ecg_mv.ndim != 2 or self.ecg_mv.shape[0] != len(self.leads):
            raise RecordingError(
                self.path,
                "malformed",
                f"Expected one row a lead, ({len(self.leads)}, samples). Received shape {self.ecg_mv.shape}.",
            )
        if not np.isfinite(self.sampling_rate_hz) or self.sampling_rate_hz <= 0:
            raise RecordingError(
                self.path,
                "sampling_rate",
                f"Expected a positive sampling rate in Hz. Received {self.sampling_rate_hz:g}.",
            )
        if self.ecg_mv.shape[1] == 0:
            raise RecordingError(self.path, "truncated", "Expected at least one sample. Received none.")
