"""A run's record, `run.json`: every invocation of `train` on its folder, none of them ever lost."""

import json
import platform
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path

from keras_ecg_mae import __version__
from keras_ecg_mae.errors import RunError
from keras_ecg_mae.files import read_if_there, write_json
from keras_ecg_mae.runs.folder import git_revision, now

RECORD = "run.json"
PACKAGES = ("keras", "tensorflow", "numpy")


@dataclass(frozen=True)
class Dataset:
    """What a run is trained on: where it lay, its checksum, and how many recordings it held."""

    folder: str
    sha256: str
    recordings: int


@dataclass(frozen=True)
class Command:
    """One invocation of `train`.

    Attributes:
        began: date and time, ISO 8601.
        command: program and arguments.
        stages: those asked for, done before or not.
        title: the flag `--title`.
        version: of this package.
        python: version of the interpreter.
        packages: version of each of `PACKAGES`.
        git_revision: see `folder.git_revision`.
        host: operating system and processor.
        devices: TensorFlow's names of what it could compute on.
        dataset: the run's.
        paper_column: the flag `--paper_column`.
    """

    began: str
    command: Sequence[str]
    stages: Sequence[str]
    title: str
    version: str
    python: str
    packages: Mapping[str, str]
    git_revision: str | None
    host: str
    devices: Sequence[str]
    dataset: Dataset
    paper_column: str


def this_command(
    *, stages: Sequence[str], title: str, devices: Sequence[str], dataset: Dataset, paper_column: str
) -> Command:
    """What this process was asked for and runs with."""
    return Command(
        began=now(),
        command=sys.argv,
        stages=stages,
        title=title,
        version=__version__,
        python=platform.python_version(),
        packages={name: metadata.version(name) for name in PACKAGES},
        git_revision=git_revision(),
        host=platform.platform(),
        devices=devices,
        dataset=dataset,
        paper_column=paper_column,
    )


def record_command(run: Path, command: Command) -> None:
    """Appends to a run's record. Raises `RunError` where the record is broken; it is then left as it is."""
    write_json(run / RECORD, {"commands": [asdict(item) for item in (*read_commands(run), command)]})


def read_commands(run: Path) -> list[Command]:
    """A run's invocations of `train`, the first one first; none where it has no record.

    Raises:
        RunError: the record is not what `record_command` writes.
    """
    path = run / RECORD
    content = read_if_there(path)
    if content is None:
        return []
    try:
        entries = json.loads(content)["commands"]
        if not entries:
            raise ValueError("no command")
        return [Command(**{**entry, "dataset": Dataset(**entry["dataset"])}) for entry in entries]
    except (ValueError, KeyError, TypeError) as error:
        raise RunError(
            f"{path}: Expected the record of a run. Received something else: {type(error).__name__} {error}."
        ) from error
