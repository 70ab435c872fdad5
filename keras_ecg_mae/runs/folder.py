"""A run folder, on a disk or in cloud storage: its lock, and the mark that a stage is done."""

import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from functools import cache
from pathlib import Path
from typing import Any

from keras_ecg_mae import __version__
from keras_ecg_mae.files import is_remote, locked, read_json, write_json

# Where each stage leaves what it makes.
FOLDERS = {"pretrain": "pretrain", "finetune": "finetune", "evaluate": "evaluation", "export": "export"}
# What pretraining leaves for a report: figures 1 and 3 of Sawano et al., and the errors of its reconstructions.
FIGURES = {"figure_1": "reconstruction_II_V5.png", "figure_3": "reconstruction.png"}
RECONSTRUCTION_ERRORS = "reconstruction.csv"
# What evaluation draws, and the row an epoch of a training.
EVALUATION_FIGURES = {"roc": "roc.png", "calibration": "calibration.png"}
METRICS = "metrics.csv"

SETTINGS = "settings.json"  # a stage's fingerprint
DONE = "done.json"
MADE = "made"
LOCK = ".lock"


@dataclass(frozen=True)
class Made:
    """When a stage was done, and by which revision and version of this package.

    Attributes:
        done: date and time, ISO 8601.
        git_revision: see `git_revision`.
        version: of this package.
    """

    done: str
    git_revision: str | None
    version: str


@cache
def git_revision() -> str | None:
    """The revision of the checkout this package runs from, `-dirty` where files differ; None outside a checkout.

    Looked up once a process: what is checked out later is not what runs. A long run asks for it as it begins.
    """
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def now() -> str:
    """Date and time, ISO 8601 to the second, UTC."""
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


@contextmanager
def run_lock(folder: Path) -> Iterator[None]:
    """Around what must not go on twice in a run folder at a time, see `files.locked`.

    In cloud storage, which knows no locks, nobody is kept out.
    """
    if is_remote(folder):
        yield
        return
    refusal = (
        f"{folder}: Expected a run that nobody is at. Received one that another process is training: wait for its "
        "end, or give another --run."
    )
    with locked(folder / LOCK, refusal):
        yield


def mark_done(folder: Path, result: Mapping[str, Any]) -> None:
    """Ends a stage: `done.json` is its last file, and says when and by which revision it was written."""
    write_json(folder / DONE, {**result, MADE: asdict(Made(now(), git_revision(), __version__))})


def read_done(folder: Path) -> dict[str, Any] | None:
    """The result of a finished stage, or None."""
    content = read_json(folder / DONE)
    return None if content is None else {name: value for name, value in content.items() if name != MADE}


def read_made(folder: Path) -> Made | None:
    """When and by which revision a stage was finished, or None."""
    made = (read_json(folder / DONE) or {}).get(MADE)
    return Made(**made) if made else None
