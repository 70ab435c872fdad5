"""Makes a simulated cohort: WFDB recordings of several institutions and a table with ejection fractions.

    python -m keras_ecg_mae.simulate --recordings=FOLDER --labels=FOLDER/labels.csv

Nothing in it comes from a patient. It is there to try the package, and for its tests.
"""

import sys
from pathlib import Path

from keras_ecg_mae.command import run_command
from keras_ecg_mae.config import Config

SHOWN = ("simulation", "cohort.recordings", "cohort.labels")


def main(config: Config, _: list[str]) -> int:
    """Simulates into `--recordings`."""
    from keras_ecg_mae.simulation.cohort import write_simulated_cohort
    from keras_ecg_mae.simulation.counts import read_counts

    settings = config.simulation
    config.cohort.require(*([] if settings.table_only else ["recordings"]), "labels")
    count = write_simulated_cohort(
        Path(config.cohort.recordings),
        Path(config.cohort.labels),
        patients=settings.patients,
        institutions=settings.institutions,
        prevalence=settings.prevalence,
        seed=settings.seed,
        counts=read_counts(settings.counts) if settings.counts else (),
        table_only=settings.table_only,
    )
    where = "not made" if settings.table_only else f"in {config.cohort.recordings}"
    sys.stdout.write(f"Simulated {count:,} recordings, {where}; table: {config.cohort.labels}\n")
    return 0


if __name__ == "__main__":
    run_command(main, SHOWN)
