"""Writes what a hospital would hand over: WFDB records and a table, of patients who do not exist."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm import tqdm

from keras_ecg_mae.errors import ConfigError, DatasetError
from keras_ecg_mae.simulation.counts import Counts
from keras_ecg_mae.simulation.device import Device, device_of
from keras_ecg_mae.simulation.ecg import simulate
from keras_ecg_mae.simulation.patients import draw_patients, visit
from keras_ecg_mae.spec import LEADS

HEADER_COMMENT = "Simulated by keras_ecg_mae: no person's recording, not for clinical use."
# Recordings simulated at once, 60 MB at 1000 Hz.
BATCH = 128


@dataclass(frozen=True)
class SimulatedInstitution:
    """The people of one institution and their recordings.

    Attributes:
        name: as the table says it.
        device: what records them.
        lvef, age, female: `(patients,)` percent, years, bool.
        split: `(patients,)` as the table says it, empty where it does not.
        patient: `(recordings,)` row of each recording's patient, ascending.
        measured: `(recordings,)` bool, whether the table knows the ejection fraction.
    """

    name: str
    device: Device
    lvef: np.ndarray
    age: np.ndarray
    female: np.ndarray
    split: np.ndarray
    patient: np.ndarray
    measured: np.ndarray

    def record_ids(self) -> list[str]:
        return [f"{self.name}-{number:06d}" for number in range(1, len(self.patient) + 1)]

    def table(self) -> pd.DataFrame:
        """A row a recording."""
        record_ids = self.record_ids()
        return pd.DataFrame(
            {
                "path": [f"{self.name}/{record_id}" for record_id in record_ids],
                "record_id": record_ids,
                "patient_id": [f"{self.name}-p{patient + 1:05d}" for patient in self.patient],
                "institution": self.name,
                "lvef": np.where(self.measured, self.lvef[self.patient].astype(int).astype(str), ""),
                "age": self.age[self.patient].astype(int),
                "sex": np.where(self.female[self.patient], "F", "M"),
                "split": self.split[self.patient],
            }
        )


def write_simulated_cohort(
    recordings: Path,
    labels: Path,
    *,
    patients: int,
    institutions: int,
    prevalence: float,
    seed: int,
    counts: Sequence[Counts] = (),
    table_only: bool = False,
) -> int:
    """Writes `recordings/<institution>/<record_id>.hea` and `.dat`, and then the table.

    Patients have one to three recordings each; 4% of the recordings have no ejection fraction in the table. With
    `counts` there are as many of either as these say. Devices differ between institutions:
    `device.device_of`. The table is written last, so a run that was broken off leaves none; where the very
    table stands already with all its recordings, nothing is done.

    Args:
        recordings: folder, made if need be.
        labels: CSV file with path (relative to `recordings`), record_id, patient_id, institution, lvef, age and sex,
            and split where the counts name splits.
        patients: over all institutions, spread evenly.
        institutions: `institution_1` and so on.
        prevalence: share of each institution's patients with an ejection fraction under 40%.
        seed: the same cohort for the same seed.
        counts: of institutions, one after another, instead of `patients` and `institutions`.
        table_only: leave `recordings` alone, for a cohort of which only the table is wanted.

    Returns:
        The number of recordings.

    Raises:
        ConfigError: the seed is negative.
        DatasetError: another table stands at `labels` (it is never overwritten), or a folder cannot be written.
    """
    if seed < 0:
        raise ConfigError(f"Expected a seed of at least 0. Received {seed}.")
    if not counts:
        sizes = [(patients + institutions - 1 - index) // institutions for index in range(institutions)]
        counts = [Counts(f"institution_{number}", size) for number, size in enumerate(sizes, start=1)]
    groups: dict[str, list[Counts]] = {}
    for count in counts:
        groups.setdefault(count.institution, []).append(count)
    cohort = [draw_institution(index, group, prevalence, seed) for index, group in enumerate(groups.values())]
    rows = pd.concat([institution.table() for institution in cohort])
    table = rows.drop(columns=[] if rows["split"].any() else ["split"]).to_csv(index=False, lineterminator="\n")
    try:
        if labels.exists():
            headers = () if table_only else (recordings / f"{path}.hea" for path in rows["path"])
            if labels.read_bytes() == table.encode() and all(header.is_file() for header in headers):
                return len(rows)
            raise DatasetError(
                f"{labels}: Expected no file here, or this very cohort's table. Received another; "
                "remove it, or name another place for the simulated one."
            )
        labels.parent.mkdir(parents=True, exist_ok=True)
        if not table_only:
            recordings.mkdir(parents=True, exist_ok=True)
            with tqdm(total=len(rows), desc="simulating", unit=" recordings", mininterval=1.0) as progress:
                for index, institution in enumerate(cohort):
                    write_institution(recordings / institution.name, institution, (seed, index), progress)
        unfinished = labels.with_name(labels.name + ".unfinished")
        unfinished.write_text(table, encoding="utf-8")
        os.replace(unfinished, labels)
    except OSError as error:
        raise DatasetError(
            f"{error.filename or recordings}: Expected a place to write the cohort to. Received: {error.strerror}."
        ) from error
    return len(rows)


def draw_institution(index: int, counts: Sequence[Counts], prevalence: float, seed: int) -> SimulatedInstitution:
    """The people of institution `index`, counted from 0.

    Where its counts name cases, each ECG has a label and a split, and no patient has ECGs of both labels or of two
    splits. Else its share of low ejection fractions is the prevalence, rounded up or down at random.
    """
    rng = np.random.default_rng(stream(seed, index, 0))
    mix = CaseMix.draw(rng)
    by_label = counts[0].cases is not None
    if by_label:
        # Patients of one split and label follow one another: how many, and how many ECGs they have.
        parts = [part for count in counts for part in count.by_label()]
        low = np.repeat([is_case for is_case, _, _ in parts], [patients for _, patients, _ in parts])
        visits = np.concatenate([_visits(patients, ecgs, rng) for _, patients, ecgs in parts])
        lvef, age = mix.people(low, rng)
    else:
        patients = counts[0].patients
        low = rng.permutation(patients) < int(prevalence * patients + rng.uniform())
        lvef, age = mix.people(low, rng)
        visits = _visits(patients, counts[0].ecgs, rng)
    return SimulatedInstitution(
        name=counts[0].institution,
        device=device_of(index),
        lvef=lvef,
        age=age,
        female=rng.uniform(size=low.size) < mix.female(low),
        split=np.repeat([count.split for count in counts], [count.patients for count in counts]),
        patient=np.repeat(np.arange(low.size), visits),
        measured=rng.uniform(size=visits.sum()) >= (0.0 if by_label else 0.04),
    )


def _visits(patients: int, recordings: int, rng: np.random.Generator) -> np.ndarray:
    """How many recordings each patient has: `recordings` in all, at least one each; for 0, one to three each."""
    if not patients:
        return np.zeros(0, int)
    if not recordings:
        return rng.choice([1, 2, 3], size=patients, p=[0.62, 0.26, 0.12])
    return 1 + rng.multinomial(recordings - patients, np.full(patients, 1 / patients))


@dataclass(frozen=True)
class CaseMix:
    """In what the people of one institution differ from those of another.

    Attributes:
        severity: how low the low ejection fractions are.
        mild: share of the others that are mildly reduced (40% to 49%).
        mean_age: in years, of people without a low ejection fraction.
    """

    severity: float
    mild: float
    mean_age: float

    @classmethod
    def draw(cls, rng: np.random.Generator) -> "CaseMix":
        return cls(rng.uniform(1.4, 2.2), rng.uniform(0.08, 0.18), rng.uniform(58, 68))

    def people(self, low: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Ejection fractions and ages in whole numbers, of people who have a low one or not."""
        lvef = np.select(
            [low, rng.uniform(size=low.size) < self.mild],
            [39.99 - 27 * rng.beta(self.severity, 2.0, low.size), rng.uniform(40, 50, low.size)],
            np.clip(rng.normal(61, 5, low.size), 50, 78),
        )
        return np.floor(lvef), np.floor(np.clip(rng.normal(self.mean_age + 4 * low, 13), 18, 95))

    def female(self, low: np.ndarray) -> np.ndarray:
        """The probability of each to be a woman."""
        return np.where(low, 0.33, 0.48)


def write_institution(
    folder: Path, institution: SimulatedInstitution, key: tuple[int, int], progress: "tqdm[None]"
) -> None:
    """Simulates one institution's records and writes them into `folder`; `key` is the cohort's seed and its index."""
    folder.mkdir(exist_ok=True)
    hearts = draw_patients(institution.lvef, institution.age, np.random.default_rng(stream(*key, 1)))
    visits = visit(hearts[institution.patient], np.random.default_rng(stream(*key, 2)))
    record_ids = iter(institution.record_ids())
    for first in range(0, len(visits), BATCH):
        for ecg_mv in simulate(visits[first : first + BATCH], institution.device, stream(*key, 3, first)):
            write_record(folder, next(record_ids), ecg_mv, institution.device)
            progress.update()


def stream(seed: int, *key: int) -> np.random.SeedSequence:
    """Random numbers for one purpose, independent of those for all others."""
    return np.random.SeedSequence(seed, spawn_key=key)


def write_record(folder: Path, record_id: str, ecg_mv: np.ndarray, device: Device) -> None:
    """Writes `(12, samples)` mV, in the order of `spec.LEADS`, as the device stores it: WFDB format 16.

    Laid out by https://physionet.org/physiotools/wag/header-5.htm and signal-5.htm. `wfdb.wrsamp` would take 25 ms a
    record, nearly all of it for the header: several times as long as simulating it.
    """
    rows = [LEADS.index(lead) for lead in device.leads]
    # -32768 would mean a missing sample.
    units = np.clip(np.rint(ecg_mv[rows] / device.resolution_mv), -32767, 32767).astype("<i2")
    lines = [f"{record_id} {len(rows)} {device.sampling_rate_hz} {units.shape[1]}"]
    for lead, signal in zip(device.leads, units, strict=True):
        checksum = int(signal.sum(dtype=np.int64)) % 65536
        lines.append(f"{record_id}.dat 16 {1 / device.resolution_mv:g}(0)/mV 16 0 {signal[0]} {checksum} 0 {lead}")
    lines.append(f"# {HEADER_COMMENT}")
    (folder / f"{record_id}.dat").write_bytes(units.T.tobytes())
    (folder / f"{record_id}.hea").write_text("\n".join(lines) + "\n", encoding="utf-8")
