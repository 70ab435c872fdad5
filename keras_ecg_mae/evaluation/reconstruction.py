"""What Sawano et al. judge by eye (appendix C), in numbers: errors by lead and part of the beat, and Einthoven's law.

A physician looked at P, QRS and T waves, and at the inferior (II, III, aVF) and anterior (V1 to V5) leads.
"""

import io
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd

from keras_ecg_mae.evaluation.delineation import PARTS, delineate
from keras_ecg_mae.spec import LEADS, PATCH_SAMPLES, PATCHES_PER_LEAD

ALL = "all leads"
LEAD_GROUPS = {"inferior": ("II", "III", "aVF"), "anterior": ("V1", "V2", "V3", "V4", "V5")}
MODEL, VISIBLE_MEAN, RECORD_MEAN, RECORDING = "model", "lead's visible mean", "recording's mean", "recording"
ERROR, EINTHOVEN, LIMB_LEADS = "error", "einthoven", "limb leads"
_SMALLEST_VARIANCE_MV2 = 1e-12
_LIMB = [LEADS.index(lead) for lead in ("I", "II", "III")]
COLUMNS = ("measure", "where", "predictor", "share", "rms_mv", "recordings")

# Of some recordings: their ids `(recordings,)`, `(recordings, 12, 5000)` mV as recorded and as reconstructed (visible
# patches as recorded), and the mask `(recordings, 240)`, 1 where a patch was hidden.
Reconstructed = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


class ReconstructionErrors:
    """Measures reconstructions; each recording is delineated once, so that a later validation is quick.

    The table of its measurements has the columns `COLUMNS`:

    * `measure`: `error` on hidden patches, or `einthoven`: how far lead II is from I + III where a patch of the three
      was hidden, visible patches being as they were recorded.
    * `where`: a lead, a group of `LEAD_GROUPS`, `all leads`, or a part of the beat; `limb leads` for `einthoven`.
    * `predictor`: `model`; the two trivial ones, which predict the mean of the lead's visible patches or of the
      recording; for `einthoven` also the recording itself.
    * `share`: mean square, as a share of that of the same samples about their lead's mean (for `einthoven`, of lead
      II's); every recording counts alike, whatever its amplitude: predicting each lead's mean would have 1.
    * `rms_mv`: root mean square, mV.
    * `recordings`: how many it was measured on.
    """

    def __init__(self) -> None:
        self._parts: dict[bytes, np.ndarray | None] = {}

    def __call__(self, batches: Iterable[Reconstructed]) -> tuple[dict[str, float], str]:
        """The model's figures as scalars by TensorBoard's names, and the whole table as CSV."""
        sums = _Sums()
        for batch in batches:
            for record_id, ecg, reconstruction, mask in zip(*batch, strict=True):
                if record_id not in self._parts:
                    self._parts[record_id] = delineate(ecg)
                sums.add(ecg, reconstruction, mask, self._parts[record_id])
        table = sums.table()
        scalars = {}
        for one in table[table["predictor"] == MODEL].itertuples():
            name = EINTHOVEN if one.measure == EINTHOVEN else one.where.replace(" ", "_")
            scalars[f"reconstruction_{name}"] = one.share
            if one.measure == EINTHOVEN:
                scalars["reconstruction_einthoven_mv"] = one.rms_mv
        return scalars, table.to_csv(index=False)


class _Sums:
    """Sums by measure, place and predictor: weighted squares, weighted reference, squares, samples, recordings."""

    def __init__(self) -> None:
        self._sums: dict[tuple[str, str, str], np.ndarray] = defaultdict(lambda: np.zeros(5))

    def add(self, ecg: np.ndarray, reconstruction: np.ndarray, mask: np.ndarray, parts: np.ndarray | None) -> None:
        ecg = ecg.astype(float)
        hidden = mask.reshape(len(LEADS), PATCHES_PER_LEAD).repeat(PATCH_SAMPLES, axis=1).astype(bool)
        reference = np.square(ecg - ecg.mean(axis=1, keepdims=True))
        weight = 1 / max(float(reference.mean()), _SMALLEST_VARIANCE_MV2)
        counts = (~hidden).sum(axis=1, keepdims=True)
        visible_mean = np.where(
            counts > 0, np.sum(ecg, axis=1, keepdims=True, where=~hidden) / np.maximum(counts, 1), ecg.mean()
        )
        predictions = {
            MODEL: reconstruction.astype(float),
            VISIBLE_MEAN: np.where(hidden, visible_mean, ecg),
            RECORD_MEAN: np.where(hidden, ecg.mean(), ecg),
        }
        for predictor, prediction in predictions.items():
            squares = np.square(prediction - ecg)
            by_lead = np.stack([np.sum(values, axis=1, where=hidden) for values in (squares, reference)])
            by_lead = np.concatenate([by_lead, hidden.sum(axis=1)[None]])
            for where, leads in _lead_rows().items():
                self._add((ERROR, where, predictor), weight, *by_lead[:, leads].sum(axis=1))
            for part, name in enumerate(PARTS if parts is not None else ()):
                inside = hidden & (parts == part)
                missed, about_mean = (float(np.sum(values, where=inside)) for values in (squares, reference))
                self._add((ERROR, name, predictor), weight, missed, about_mean, np.count_nonzero(inside))
        limb_hidden = hidden[_LIMB].any(axis=0)
        of_lead_ii = np.sum(reference[_LIMB[1]], where=limb_hidden)
        for predictor, prediction in {**predictions, RECORDING: ecg}.items():
            first, second, third = prediction[_LIMB]
            squares = np.sum(np.square(second - first - third), where=limb_hidden)
            self._add((EINTHOVEN, LIMB_LEADS, predictor), weight, squares, of_lead_ii, np.count_nonzero(limb_hidden))

    def _add(self, key: tuple[str, str, str], weight: float, squares: float, reference: float, samples: float) -> None:
        if samples:
            self._sums[key] += (weight * squares, weight * reference, squares, samples, 1)

    def table(self) -> pd.DataFrame:
        rows = [
            (*key, squares / reference, (plain / samples) ** 0.5, int(recordings))
            for key, (squares, reference, plain, samples, recordings) in self._sums.items()
            if reference > 0
        ]
        return pd.DataFrame(rows, columns=list(COLUMNS))


def _lead_rows() -> dict[str, list[int]]:
    groups = {**{lead: (lead,) for lead in LEADS}, **LEAD_GROUPS, ALL: LEADS}
    return {where: [LEADS.index(lead) for lead in leads] for where, leads in groups.items()}


def read_reconstruction_errors(path: Path) -> pd.DataFrame:
    """The table that `ReconstructionErrors` left in a file, its first three columns as index."""
    table = pd.read_csv(io.BytesIO(path.read_bytes()), dtype=str).set_index(list(COLUMNS[:3]))
    return table.astype({**dict.fromkeys(COLUMNS[3:], float), COLUMNS[-1]: int})  # Python's float, to the last digit
