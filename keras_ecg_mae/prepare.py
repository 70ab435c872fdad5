"""Turns a folder of recordings and a table into a dataset of TFRecords, split by patient.

    python -m keras_ecg_mae.prepare --recordings=ROOT --labels=TABLE --output=DATASET

The table (CSV, TSV, Excel or Parquet) has one row a recording. Only its `path` column is needed; `record_id`,
`patient_id`, `institution`, `lvef`, `age` and `sex` are used where they are present, under these names or those you
give. Recordings that cannot be used are listed in DATASET/rejected.csv with the reason, and DATASET/cohort.html shows
who is in it; DATASET/findings.csv lists what is doubtful about signals. A command that was stopped goes on where it
was when it is given again. With --table_only it shows the split before any of them is opened.
"""

import sys
from typing import TYPE_CHECKING

from keras_ecg_mae.command import run_command
from keras_ecg_mae.config import Config
from keras_ecg_mae.errors import REASONS, ConfigError

if TYPE_CHECKING:
    from keras_ecg_mae.cohort.description import CohortDescription

SHOWN = ("cohort", "signal", "quality")


def main(config: Config, arguments: list[str]) -> int:
    """Prepares `--output` and prints the counts."""
    from keras_ecg_mae.dataset import prepare, split_table

    cohort = config.cohort
    if arguments and cohort.runner == "local":
        raise ConfigError(f"Expected flags only with --runner=local. Received {arguments[0]!r}.")
    if cohort.table_only:
        cohort.require("labels", "output")
        described = split_table(cohort)
        lines = [f"Table {cohort.labels}, split but not read: {cohort.output}", *_counts(described)]
    else:
        cohort.require("recordings", "labels", "output")
        described = prepare(cohort, config.signal, config.quality, arguments)
        lines = [f"Dataset {cohort.output}", *_counts(described)]
    lines.append(f"Who is in it: {cohort.output}/cohort.html")
    lines += _losses(described, cohort.output)
    sys.stdout.write("\n".join(lines) + "\n")
    return 0


def _losses(cohort: "CohortDescription", output: str) -> list[str]:
    """How many recordings, labels and other values of the table are not in the dataset, and why."""
    from keras_ecg_mae.cohort.table_problems import LEFT_OUT, TABLE_PROBLEMS

    lines = [f"Left out {count:,}: {REASONS[code]} ({code})." for code, count in cohort.rejected.items()]
    if cohort.rejected:
        lines.append(f"Each with its reason: {output}/rejected.csv")
    if not_chosen := cohort.table.get("not_chosen", 0):
        lines.append(f"Left out {not_chosen:,}: another ECG of the patient was taken (--ecgs_per_patient).")
    problems = [problem for problem in cohort.table.get("problems", ()) if problem["consequence"] != LEFT_OUT]
    for problem in problems:
        column = f', column "{problem["column"]}"' if problem["column"] else ""
        lines.append(
            f"{problem['rows']:,} rows of --{problem['table']}{column}: {problem['consequence']}. {problem['problem']}"
        )
    if problems:
        lines.append(f"Each with its row: {output}/{TABLE_PROBLEMS}")
    if pairing := cohort.table.get("pairing"):
        lines += [
            f"{pairing['paired']:,} of {pairing['ecgs']:,} ECGs have an echocardiogram within "
            f"{pairing['window_days']:,} days (--echo_window_days).",
            f"Of the others, {pairing['without_date']:,} have no date, {pairing['without_echo']:,} none of their "
            f"patient's, {pairing['outside_window']:,} none that near.",
        ]
    if cohort.label_name and (unlabelled := cohort.count(labelled=False)):
        lines.append(f"{unlabelled:,} of {cohort.count():,} recordings have no label.")
    return lines


def _counts(cohort: "CohortDescription") -> list[str]:
    """A line an institution, a column a split."""
    from keras_ecg_mae.config import SPLITS

    lines = [f"{cohort.count():,} recordings (positive {cohort.label_name} in brackets)"]
    lines.append(f"{'institution':<24}" + "".join(f"{split:>16}" for split in SPLITS))
    for institution in cohort.institutions:
        external = " (external)" if institution in cohort.external_institutions else ""
        counts = (
            (cohort.count(s, institution=institution), cohort.positives(s, institution=institution)) for s in SPLITS
        )
        cells = (f"{records:,} ({positive:,})" for records, positive in counts)
        lines.append(f"{institution + external:<24}" + "".join(f"{cell:>16}" for cell in cells))
    return lines


if __name__ == "__main__":
    run_command(main, SHOWN, arguments=True)
