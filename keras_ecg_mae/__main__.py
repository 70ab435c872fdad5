"""`keras-ecg-mae COMMAND`: the same as `python -m keras_ecg_mae.COMMAND`."""

import runpy
import sys

COMMANDS = ("simulate", "inspect", "prepare", "train", "evaluate", "report", "export", "predict", "label_efficiency")


def main() -> None:
    """Runs the command that the first argument names. Exit status 2 where it names none."""
    if len(sys.argv) < 2 or sys.argv[1] not in COMMANDS:
        received = " ".join(sys.argv[1:])
        sys.stderr.write(f"Expected one of {', '.join(COMMANDS)}, then its flags. Received {received!r}.\n")
        sys.exit(2)
    runpy.run_module(f"keras_ecg_mae.{sys.argv.pop(1)}", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
