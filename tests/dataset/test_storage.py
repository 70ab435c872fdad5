"""Datasets in cloud storage."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from keras_ecg_mae.dataset import Manifest

READ = """
import sys
from keras_ecg_mae.dataset import evaluation_batches, read_manifest, verify
manifest = read_manifest(sys.argv[1])
verify(manifest)
batches = evaluation_batches(manifest, ["test"], batch_size=16, labelled=False)
for batch in batches.as_numpy_iterator():
    for record_id, ecg in zip(batch["record_id"], batch["ecg"]):
        print(record_id.decode(), f"{abs(ecg).sum():.3f}", flush=True)
import os
os._exit(0)  # S3's client aborts while the interpreter ends
"""


def test_a_dataset_on_s3_reads_as_the_local_one(simulated: Manifest, s3: Any) -> None:
    answers = [
        subprocess.run(
            [sys.executable, "-c", READ, address],
            check=True,
            capture_output=True,
            text=True,
            env={**os.environ, **s3.environment},
        ).stdout
        for address in (simulated.folder, s3.upload(Path(simulated.folder), "read"))
    ]
    assert answers[0] == answers[1]
    assert len(answers[0].splitlines()) == simulated.count("test")
