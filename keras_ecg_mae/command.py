"""What the commands share: flags in, settings out; one sentence and exit status 1 where the user has to act."""

import os
import sys
from collections.abc import Callable, Sequence
from logging import WARNING, LogRecord
from pathlib import Path

from absl import app, logging

from keras_ecg_mae.config import Config
from keras_ecg_mae.errors import EcgMaeError, PreemptedError
from keras_ecg_mae.flags import config_from_flags, define_flags, help_text
from keras_ecg_mae.storage import aborts_at_exit

# The exit status of a run that was asked to end and has saved everything: sysexits.h, 'temporary failure, try again'.
PREEMPTED = 75

# TensorFlow's C++ side reports plugins and CPU kernels on every start; its errors reach Python as exceptions.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


def run_command(main: Callable[[Config, list[str]], int], shown: Sequence[str], *, arguments: bool = False) -> None:
    """Parses the command line and exits with what `main` returns for the settings and the remaining arguments.

    Args:
        main: imports what it needs itself, since TensorFlow takes seconds to load and `--help` should not.
        shown: what `--help` shows: sections of `Config`, or single settings as `cohort.labels`.
        arguments: whether the command takes any besides flags.
    """
    if {"--help", "--helpshort"} & set(sys.argv[1:]):
        text = f"{sys.modules['__main__'].__doc__}{help_text(shown)}"
        sys.stdout.write(f"{text}\nEvery other setting may be given too: docs/settings.md, or --helpfull.\n")
        return
    define_flags()

    def checked(argv: list[str]) -> int:
        if len(argv) > 1 and not arguments:
            raise app.UsageError(f"Expected flags only. Received {argv[1]!r}.")
        status = attempt(main, argv[1:])
        if aborts_at_exit():
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)
        return status

    logging.set_verbosity(logging.INFO)
    logging.get_absl_handler().addFilter(_worth_reading)
    app.run(checked)


def attempt(main: Callable[[Config, list[str]], int], arguments: list[str]) -> int:
    """Runs a command with the settings that the flags have. Returns its exit status; says on stderr why it is not 0."""
    try:
        return main(config_from_flags(), arguments)
    except PreemptedError as error:
        sys.stderr.write(f"preempted: {error}\n")
        return PREEMPTED
    except EcgMaeError as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("interrupted: give the same command again; train goes on from its last checkpoint\n")
        return 130


def _worth_reading(record: LogRecord) -> bool:
    """This package's messages and everybody's warnings: TensorFlow reports each file it writes at the same level."""
    return record.levelno >= WARNING or Path(__file__).parent in Path(record.pathname).parents
