"""Writes what a hospital would hand over: WFDB records and a table, of patients who do not exist."""

import csv
import io
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from keras_ecg_mae.errors import ConfigError, DatasetError
from keras_ecg_mae.simulation.counts import Counts
from keras_ecg_mae.simulation.device import Device, device_of
from keras_ecg_mae.simulation.ecg import simulate
from keras_ecg_mae.simulation.patients import draw_patients, visit
from keras_ecg_mae.spec import LEADS

COLUMNS = ("path", "record_id", "patient_id", "institution", "lvef", "age", "sex")
SPLIT_COLUMN = "split"  # behind them, where the counts of a cohort name splits
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

    def table_rows(self) -> Iterator[tuple[str, ...]]:
        for record_id, patient, measured in zip(self.record_ids(), self.patient, self.measured, strict=True):
            yield (
                f"{self.name}/{record_id}",
                record_id,
                f"{self.name}-p{patient + 1:05d}",
                self.name,
                f"{self.lvef[patient]:.0f}" if measured else "",
                f"{self.age[patient]:.0f}",
                "F" if self.female[patient] else "M",
                str(self.split[patient]),
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
        labels: CSV file with `COLUMNS`, and `SPLIT_COLUMN` where the counts name splits; paths are relative to
            `recordings`.
        patients: over all institutions, spread evenly.
        institutions: `institution_1` and so on.
        prevalence: share of each institution's patients with an ejection fraction under 40%.
        seed: the same cohort for the same seed.
        counts: of institutions, one after another, instead of `patients` and `institutions`.
        table_only: leave `recordings` alone, for a cohort of which only the table is wanted.

    Returns:
        The number of recordings.

    Raises:
        ConfigError: a number out of range.
        DatasetError: another table stands at `labels` (it is never overwritten), or a folder cannot be written.
    """
    if not 1 <= institutions <= patients:
        raise ConfigError(
            f"Expected between 1 and as many institutions as the {patients} patients. Received {institutions}."
        )
    if not 0 < prevalence < 1:
        raise ConfigError(f"Expected a prevalence between 0 and 1. Received {prevalence}.")
    if seed < 0:
        raise ConfigError(f"Expected a seed of at least 0. Received {seed}.")
    if counts:
        cohort = draw_counted(counts, prevalence, seed)
    else:
        sizes = ((patients + institutions - 1 - index) // institutions for index in range(institutions))
        cohort = [draw_institution(index, size, prevalence, seed) for index, size in enumerate(sizes)]
    total = sum(len(institution.patient) for institution in cohort)
    table = table_text(cohort)
    try:
        if labels.exists():
            if table_stands(recordings, labels, cohort, table, table_only):
                return total
            raise DatasetError(
                f"{labels}: Expected no file here, or this very cohort's table. Received another; "
                "remove it, or name another place for the simulated one."
            )
        for folder in (labels.parent, *([] if table_only else [recordings])):
            folder.mkdir(parents=True, exist_ok=True)
        with tqdm(total=total, desc="simulating", unit=" recordings", mininterval=1.0, disable=table_only) as progress:
            for index, institution in enumerate([] if table_only else cohort):
                write_institution(recordings / institution.name, institution, (seed, index), progress)
        unfinished = labels.with_name(labels.name + ".unfinished")
        unfinished.write_text(table, encoding="utf-8")
        os.replace(unfinished, labels)
    except OSError as error:
        raise DatasetError(
            f"{error.filename or recordings}: Expected a place to write the cohort to. Received: {error.strerror}."
        ) from error
    return total


def draw_institution(
    index: int, patients: int, prevalence: float, seed: int, recordings: int | None = None, name: str = ""
) -> SimulatedInstitution:
    """The people of institution `index`, counted from 0; with `recordings`, as many, else one to three a patient.

    Its share of low ejection fractions is the prevalence, rounded up or down at random; how low they are, how many
    are mildly reduced (40% to 49%), and the age differ from institution to institution.
    """
    rng = np.random.default_rng(stream(seed, index, 0))
    mix = CaseMix.draw(rng)
    low = rng.permutation(patients) < int(prevalence * patients + rng.uniform())
    lvef, age = mix.people(low, rng)
    if recordings is None:
        visits = rng.choice([1, 2, 3], size=patients, p=[0.62, 0.26, 0.12])
    else:
        visits = _visits(patients, recordings, rng)
    patient = np.repeat(np.arange(patients), visits)
    return SimulatedInstitution(
        name=name or f"institution_{index + 1}",
        device=device_of(index),
        lvef=lvef,
        age=age,
        female=rng.uniform(size=patients) < mix.female(low),
        split=np.full(patients, ""),
        patient=patient,
        measured=rng.uniform(size=patient.size) >= 0.04,
    )


def draw_counted(counts: Sequence[Counts], prevalence: float, seed: int) -> list[SimulatedInstitution]:
    """Institutions with exactly these counts; where they do not say how many ECGs are positive, by the prevalence."""
    by_institution: dict[str, list[Counts]] = {}
    for count in counts:
        by_institution.setdefault(count.institution, []).append(count)
    return [
        _draw_by_label(index, name, groups, seed)
        if groups[0].cases is not None
        else draw_institution(index, groups[0].patients, prevalence, seed, groups[0].ecgs, name)
        for index, (name, groups) in enumerate(by_institution.items())
    ]


def _draw_by_label(index: int, name: str, groups: Sequence[Counts], seed: int) -> SimulatedInstitution:
    """An institution of which each ECG has a label and a split, and no patient ECGs of both labels or two splits."""
    rng = np.random.default_rng(stream(seed, index, 0))
    mix = CaseMix.draw(rng)
    # Patients of one split and label follow one another: how many, and how many ECGs they have.
    parts = [part for group in groups for part in group.by_label()]
    low = np.repeat([part.is_case for part in parts], [part.patients for part in parts])
    visits = np.concatenate([_visits(part.patients, part.ecgs, rng) for part in parts])
    lvef, age = mix.people(low, rng)
    return SimulatedInstitution(
        name=name,
        device=device_of(index),
        lvef=lvef,
        age=age,
        female=rng.uniform(size=low.size) < mix.female(low),
        split=np.repeat([group.split for group in groups], [group.patients for group in groups]),
        patient=np.repeat(np.arange(low.size), visits),
        measured=np.ones(visits.sum(), bool),
    )


def _visits(patients: int, recordings: int, rng: np.random.Generator) -> np.ndarray:
    """How many recordings each of some patients has, at least one."""
    return 1 + rng.multinomial(recordings - patients, np.full(patients, 1 / patients)) if patients else np.zeros(0, int)


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


def table_text(cohort: list[SimulatedInstitution]) -> str:
    """The table as CSV."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    has_splits = any((institution.split != "").any() for institution in cohort)
    columns = (*COLUMNS, SPLIT_COLUMN) if has_splits else COLUMNS
    writer.writerow(columns)
    for institution in cohort:
        writer.writerows(row[: len(columns)] for row in institution.table_rows())
    return text.getvalue()


def table_stands(
    recordings: Path, labels: Path, cohort: list[SimulatedInstitution], table: str, table_only: bool
) -> bool:
    """Whether an earlier run wrote this very table, and all its recordings unless they are not wanted."""
    return labels.read_bytes() == table.encode() and all(
        table_only or (recordings / institution.name / f"{record_id}.hea").is_file()
        for institution in cohort
        for record_id in institution.record_ids()
    )
