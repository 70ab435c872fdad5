"""The same dataset by Apache Beam. DaskRunner is in test_dask.py; the others need a cluster."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from keras_ecg_mae.config import Cohort, Config, Quality, Signal
from keras_ecg_mae.dataset import prepare
from keras_ecg_mae.dataset.beam_pipeline import run_in_beam
from keras_ecg_mae.dataset.shards import ShardTask, remove_duplicates
from keras_ecg_mae.errors import ConfigError, DatasetError
from keras_ecg_mae.prepare import main

if TYPE_CHECKING:
    from tests.dataset.conftest import Contents, Hospital

REJECT = Quality(reject=("duplicate_signal",))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["hospital", "twins"])
def test_the_same_bytes_as_on_one_machine(
    name: str, tmp_path: Path, secret: str, contents: Contents, request: pytest.FixtureRequest
) -> None:
    hospital: Hospital = request.getfixturevalue(name)
    settings = {"patient_key_file": secret, "records_per_shard": 4}
    prepare(hospital.cohort(tmp_path / "local", workers=1, **settings), quality=REJECT)
    cohort = hospital.cohort(tmp_path / "beam", runner="DirectRunner", **settings)
    prepare(cohort, quality=REJECT, runner_arguments=["--direct_num_workers=1"])
    assert contents(tmp_path / "beam") == contents(tmp_path / "local")


def test_a_pipeline_that_fails_says_why(tmp_path: Path) -> None:
    (tmp_path / ".unfinished").mkdir()
    file = "north/train-00000-of-00001.tfrecord"
    task = ShardTask(str(tmp_path), file, Cohort(), Signal(), Quality(), duplicates=(0,))
    with pytest.raises(DatasetError, match=r"--runner=DirectRunner: .* Received \w+: .*Expected this shard"):
        run_in_beam(remove_duplicates, [task], str(tmp_path), "DirectRunner", [])


def test_without_beam_it_says_how_to_get_it(
    hospital: Hospital, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "apache_beam", None)
    with pytest.raises(ConfigError, match=r"pip install 'keras-ecg-mae\[beam\]'"):
        prepare(hospital.cohort(tmp_path / "dataset", runner="FlinkRunner"))


def test_pipeline_options_need_a_runner(hospital: Hospital, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"Expected flags only with --runner=local\. Received '--flink_master=x'"):
        main(Config(cohort=hospital.cohort(tmp_path / "dataset")), ["--flink_master=x"])
