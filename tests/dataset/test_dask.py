"""`prepare` on a Dask cluster: a scheduler and two worker processes on loopback. Skipped without the extra `dask`."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from keras_ecg_mae.dataset import prepare
from keras_ecg_mae.errors import DatasetError

if TYPE_CHECKING:
    from tests.dataset.conftest import Contents, Hospital

pytest.importorskip("distributed", reason="the extra dask is not installed")
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("default")]  # Dask's own

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[str]:
    """The address of a scheduler with two workers."""
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    place, loopback = tmp_path / "scheduler.json", ["--host=127.0.0.1", f"--scheduler-file={tmp_path}/scheduler.json"]
    commands = [["scheduler", "--port=0", "--no-dashboard"], *[["worker", "--nthreads=1", "--no-dashboard"]] * 2]
    with ExitStack() as processes:
        for command in commands:
            process = subprocess.Popen(
                [sys.executable, "-m", "dask", *command, *loopback],
                env=environment,
                cwd=tmp_path,
                stderr=subprocess.DEVNULL,
            )
            processes.callback(process.wait)
            processes.callback(process.terminate)
        from distributed import Client

        while not place.exists():
            assert process.poll() is None
        with Client(scheduler_file=str(place)) as client:  # type: ignore[no-untyped-call]
            client.wait_for_workers(2, timeout=120)
            address: str = client.scheduler.address
        yield address


def test_the_same_bytes_as_on_one_machine(
    hospital: Hospital, tmp_path: Path, secret: str, contents: Contents, cluster: str
) -> None:
    settings = {"patient_key_file": secret, "records_per_shard": 4}
    prepare(hospital.cohort(tmp_path / "local", workers=1, **settings))
    cohort = hospital.cohort(tmp_path / "dask", runner="DaskRunner", **settings)
    prepare(cohort, runner_arguments=[f"--dask_client_address={cluster}"])
    assert contents(tmp_path / "dask") == contents(tmp_path / "local")


def test_no_scheduler_is_one_sentence(hospital: Hospital, tmp_path: Path) -> None:
    cohort = hospital.cohort(tmp_path / "dask", runner="DaskRunner")
    with pytest.raises(DatasetError, match=r"--runner=DaskRunner: Expected the pipeline to finish\. Received "):
        prepare(cohort, runner_arguments=["--dask_client_address=tcp://127.0.0.1:9", "--dask_connection_timeout=2"])
