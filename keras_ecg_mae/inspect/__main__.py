"""Says what was understood of each file: format, leads, rate, length, amplitudes, and what is doubtful about them.

    python -m keras_ecg_mae.inspect FILE...
    python -m keras_ecg_mae.inspect --json FILE...
    python -m keras_ecg_mae.inspect --draw=FOLDER FILE...

Exits with 1 where a file could not be read; the others are looked at all the same. Findings are those of the 10 s that
prepare would take (--long_recordings). With --draw these are drawn on ECG paper, 25 mm/s and 10 mm/mV. Of a file that
does not say its unit, sampling rate or leads, the sidecar to write is shown; --signal_unit and so on say it of all
files. FILE#ID is a recording of a file of many.
"""

# In a folder without __init__.py, since a file inspect.py would be taken for the standard library's module of that name
# by every command that is run by its file: Python puts the file's folder, keras_ecg_mae, before its own library.

import itertools
import json
import os
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from absl import logging

from keras_ecg_mae.command import run_command
from keras_ecg_mae.config import Config, Inspect
from keras_ecg_mae.errors import ConfigError, RecordingError, UnsaidError

if TYPE_CHECKING:
    from keras_ecg_mae.recordings.inspection import Inspection

SHOWN = ("inspection", "signal", "quality", "cohort.long_recordings", "cohort.max_flat_leads")


def main(config: Config, files: list[str]) -> int:
    """Looks at every file."""
    if not files:
        raise ConfigError("Expected at least one file to inspect. Received none.")
    failed = False
    drawn: set[Path] = set()
    for path in files:
        try:
            text = _inspect(config, path, drawn)
        except RecordingError as error:
            failed = True
            text = _failure(config, path, error)
        sys.stdout.write(text + "\n")
        sys.stdout.flush()
    return int(failed)


def _inspect(config: Config, path: str, drawn: set[Path]) -> str:
    from keras_ecg_mae.recordings.inspection import inspect_recording, printable
    from keras_ecg_mae.recordings.isolation import open_isolated

    inspection = inspect_recording(
        open_isolated(path, config.signal),
        config.quality,
        long_recordings=config.cohort.long_recordings,
        max_flat_leads=config.cohort.max_flat_leads,
    )
    json_wanted = config.inspection.json
    text = json.dumps(inspection.as_json(), allow_nan=False) if json_wanted else inspection.as_text()
    if config.inspection.draw:
        drawing = printable(str(draw(inspection, config.inspection, drawn)))
        if json_wanted:
            logging.info("Drawn: %s", drawing)
        else:
            text += f"\n  drawn        {drawing}"
    return text


def draw(inspection: "Inspection", settings: Inspect, drawn: set[Path]) -> Path:
    """Draws the 10 s that are taken of a recording, and returns the file, which takes the place of one of its name.

    The file is called after the recording's, and the id of `FILE#ID`; a second `record` of this run, in which
    `drawn` are the drawings so far, becomes `record-2`. Raises `ConfigError` where the folder cannot be written.
    """
    from keras_ecg_mae.recordings.ecg_paper import draw_ecg, to_png, to_svg  # matplotlib takes a second to load
    from keras_ecg_mae.recordings.source import split_record_path

    folder = Path(settings.draw)
    file, record_id = split_record_path(inspection.recording.path)
    name = os.path.splitext(os.path.basename(file))[0]
    if record_id is not None:
        name += f"-{re.sub('[^A-Za-z0-9_.-]', '_', record_id)}"
    stems = itertools.chain([name], (f"{name}-{number}" for number in itertools.count(2)))
    drawing = next(place for stem in stems if (place := folder / f"{stem}.{settings.draw_format}") not in drawn)
    drawn.add(drawing)
    figure = draw_ecg(inspection.page_mv, title=inspection.page_title(), note=inspection.page_note())
    try:
        folder.mkdir(parents=True, exist_ok=True)
        drawing.write_bytes(to_png(figure) if settings.draw_format == "png" else to_svg(figure))
    except OSError as error:
        raise ConfigError(
            f"Expected --draw to be a folder that can be written. Received {folder}: {error.strerror}."
        ) from error
    return drawing


def _failure(config: Config, path: str, error: RecordingError) -> str:
    from keras_ecg_mae.recordings.inspection import printable

    if config.inspection.json:
        to_write = (
            {"sidecar_file": error.sidecar_file, "sidecar": error.sidecar} if isinstance(error, UnsaidError) else {}
        )
        return json.dumps({"path": path, "error": error.detail, **to_write})
    text = f"{printable(path)}\n  error        {error.detail}"
    if isinstance(error, UnsaidError):
        lines = ",\n".join(f"  {json.dumps(item)}: {json.dumps(said)}" for item, said in error.sidecar.items())
        text += f"\n  sidecar      fill this in and save it as {printable(error.sidecar_file)}:\n{{\n{lines}\n}}"
    return text


if __name__ == "__main__":
    run_command(main, SHOWN, arguments=True)
