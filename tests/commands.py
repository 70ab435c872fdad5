"""The commands, typed in the tests' own process: TensorFlow takes five seconds to load in another."""

import io
import sys
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest
from absl import flags as absl_flags

from keras_ecg_mae import flags
from keras_ecg_mae.command import attempt
from keras_ecg_mae.config import Config


@dataclass(frozen=True)
class Answer:
    """What a command printed, and its exit status."""

    returncode: int
    stdout: str
    stderr: str


def program(command: str) -> ModuleType:
    return import_module(f"keras_ecg_mae.{command}" + (".__main__" if command == "inspect" else ""))


def read_flags(*arguments: str) -> list[str]:
    """Sets absl's flags as a command line does, all others to their defaults. Returns what is left."""
    flags.define_flags()
    for _, section in flags.sections():
        for name, _ in flags.settings(section):
            absl_flags.FLAGS[name].unparse()
    rest: list[str] = absl_flags.FLAGS(["command", *arguments])[1:]
    return rest


def parse(*arguments: str) -> tuple[Config, list[str]]:
    """Settings of a command line, and what is left of it."""
    rest = read_flags(*arguments)
    return flags.config_from_flags(), rest


def run(command: str, *arguments: object, folder: Path, status: int = 0) -> Answer:
    """Types a command in a folder. `status` is what it has to end with."""
    stdout, stderr = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(stdout), redirect_stderr(stderr):
        patch.chdir(folder)
        patch.setattr(sys, "argv", [command, *map(str, arguments)])
        returned = attempt(program(command).main, read_flags(*map(str, arguments)))
    assert returned == status, stderr.getvalue()
    return Answer(returned, stdout.getvalue(), stderr.getvalue())
