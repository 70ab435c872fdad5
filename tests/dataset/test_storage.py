"""Datasets in cloud storage."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

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


@pytest.fixture
def s3() -> Iterator[dict[str, str]]:
    """A local S3 server; what a process needs to reach it."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield {
        "S3_ENDPOINT": f"http://{host}:{port}",
        "AWS_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    server.stop()


def test_a_dataset_on_s3_reads_as_the_local_one(simulated: Manifest, s3: dict[str, str]) -> None:
    import boto3

    client = boto3.client(
        "s3",
        endpoint_url=s3["S3_ENDPOINT"],
        region_name="us-east-1",
        aws_access_key_id="test",
        aws_secret_access_key="test",
    )
    client.create_bucket(Bucket="ecg")
    folder = Path(simulated.folder)
    for path in folder.rglob("*"):
        if path.is_file():
            client.upload_file(str(path), "ecg", f"dataset/{path.relative_to(folder)}")
    answers = [
        subprocess.run(
            [sys.executable, "-c", READ, address], check=True, capture_output=True, text=True, env={**os.environ, **s3}
        ).stdout
        for address in (simulated.folder, "s3://ecg/dataset")
    ]
    assert answers[0] == answers[1]
    assert len(answers[0].splitlines()) == simulated.count("test")
