"""An inspected recording on ECG paper, as a file."""

import hashlib
import itertools
import os
import re
from pathlib import Path

from keras_ecg_mae import spec
from keras_ecg_mae.errors import ConfigError
from keras_ecg_mae.recordings.ecg_paper import draw_ecg, to_png, to_svg
from keras_ecg_mae.recordings.findings import Finding
from keras_ecg_mae.recordings.inspection import Inspection, printable
from keras_ecg_mae.recordings.source import split_record_path

FORMS = {"png": to_png, "svg": to_svg}


def draw(inspection: Inspection, folder: Path, form: str) -> Path:
    """Draws the 10 s that are taken of a recording into `folder/NAME.png` or `.svg`, and returns that file.

    NAME is the recording's file without its extension, and the id of `FILE#ID`. A drawing notes which path it is of:
    drawn again, the recording takes the place of its own drawing, and of nothing else: with the name taken it becomes
    NAME-2, and so on.

    Raises:
        ConfigError: the folder cannot be written.
    """
    path = inspection.recording.path
    source = hashlib.sha256(os.fsencode(os.path.abspath(path))).hexdigest()
    figure = draw_ecg(inspection.page_mv, title=title(inspection), note=summary(inspection.findings))
    content = FORMS[form](figure, source=source)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        place = _place(folder, _stem(path), form, source)
        place.write_bytes(content)
    except OSError as error:
        raise ConfigError(
            f"Expected --draw to be a folder that can be written. Received {folder}: {error.strerror}."
        ) from error
    return place


def title(inspection: Inspection) -> str:
    """The file's name, and how it was recorded."""
    recording = inspection.recording
    seconds = recording.ecg_mv.shape[1] / recording.sampling_rate_hz
    file, record_id = split_record_path(recording.path)
    name = printable(os.path.basename(file) + ("" if record_id is None else f"#{record_id}"))
    taken = f", from {inspection.start_s:.2f} s on" if seconds > spec.DURATION_S else ""
    return f"{name}    {recording.format}, {recording.sampling_rate_hz:g} Hz, {seconds:.2f} s{taken}"


def summary(findings: tuple[Finding, ...]) -> str:
    """The findings in a line: each kind once, with its leads."""
    leads: dict[str, list[str]] = {}
    for finding in findings:
        leads.setdefault(finding.code, []).extend([finding.lead] if finding.lead else [])
    return ";  ".join(" ".join([code.replace("_", " "), *names]) for code, names in leads.items())


def _stem(path: str) -> str:
    file, record_id = split_record_path(path)
    stem = os.path.splitext(os.path.basename(file))[0] or "recording"
    return stem if record_id is None else f"{stem}-{re.sub('[^A-Za-z0-9_.-]', '_', record_id)}"


def _place(folder: Path, stem: str, form: str, source: str) -> Path:
    """The first of NAME, NAME-2, ... that is free, or holds a drawing of the same recording."""
    for number in itertools.count(1):
        place = folder / (f"{stem}.{form}" if number == 1 else f"{stem}-{number}.{form}")
        if not os.path.lexists(place) or (place.is_file() and source.encode() in place.read_bytes()):
            return place
    raise AssertionError("itertools.count ended")
