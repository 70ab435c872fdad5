"""A run folder on disk: what a stage was asked to do, and the mark that it is done."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from keras_ecg_mae.errors import RunError

SETTINGS = "settings.json"
DONE = "done.json"


def write_whole(path: Path, content: bytes | str) -> None:
    """Writes a file so that it is there whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        partial.write_bytes(content.encode() if isinstance(content, str) else content)
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Writes a JSON file whole."""
    write_whole(path, json.dumps(content, indent=2, allow_nan=False) + "\n")


def enter_stage(folder: Path, settings: Mapping[str, Any]) -> None:
    """Notes what decides a stage's result, or finds it unchanged since the stage was begun.

    A stage that failed before it left any file, as on weights that could not be read, may be begun anew with others.

    Raises:
        RunError: the folder belongs to other settings; each difference is named.
    """
    path = folder / SETTINGS
    asked = json.loads(json.dumps(settings))
    if not any(other.is_file() for other in folder.rglob("*") if other != path):
        write_json(path, asked)
        return
    noted = json.loads(path.read_text())
    changed = [
        f"{name}: {noted.get(name)!r} then, {asked.get(name)!r} now"
        for name in sorted({*noted, *asked})
        if noted.get(name) != asked.get(name)
    ]
    if changed:
        raise RunError(
            f"{path}: Expected the settings this stage was begun with. Received other ones: {'; '.join(changed)}. "
            "Give another --run, or remove the stage's folder to do it again."
        )


def mark_done(folder: Path, result: Mapping[str, Any]) -> None:
    """Ends a stage: `done.json` is its last file."""
    write_json(folder / DONE, result)


def read_done(folder: Path) -> dict[str, Any] | None:
    """The result of a finished stage, or None."""
    path = folder / DONE
    return json.loads(path.read_text()) if path.exists() else None
