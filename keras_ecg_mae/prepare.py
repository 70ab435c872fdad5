"""Turns a folder of recordings and a table into a dataset of TFRecords, split by patient.

    python -m keras_ecg_mae.prepare --recordings=ROOT --labels=TABLE.csv --output=DATASET

The table has one row a recording. Only its `path` column is needed; `record_id`, `patient_id`, `institution`, `lvef`,
`age` and `sex` are used where they are present, under these names or those you give. Recordings that cannot be used
are listed in DATASET/rejected.csv with the reason.
"""

import sys

from keras_ecg_mae.command import run_command
from keras_ecg_mae.config import Config
from keras_ecg_mae.errors import REASONS


def main(config: Config, _: list[str]) -> int:
    """Prepares `--output` and prints the counts."""
    from keras_ecg_mae.dataset import SPLITS, prepare

    config.cohort.require("recordings", "labels", "output")
    manifest = prepare(config.cohort)
    header = f"{'institution':<24}" + "".join(f"{split:>12}" for split in SPLITS)
    lines = [f"Dataset {manifest.folder}: {manifest.count():,} recordings (positive {manifest.label_name} in brackets)"]
    lines.append(header)
    for institution in manifest.institutions:
        external = " (external)" if institution in manifest.external_institutions else ""
        counts = (
            (manifest.count(s, institution=institution), manifest.positives(s, institution=institution)) for s in SPLITS
        )
        cells = (f"{records:,} ({positive:,})" for records, positive in counts)
        lines.append(f"{institution + external:<24}" + "".join(f"{cell:>12}" for cell in cells))
    for code, count in manifest.rejected.items():
        lines.append(f"Left out {count:,}: {REASONS[code]} ({code}).")
    if manifest.rejected:
        lines.append(f"Each with its reason: {manifest.folder}/rejected.csv")
    sys.stdout.write("\n".join(lines) + "\n")
    return 0


if __name__ == "__main__":
    run_command(main, ["cohort"])
