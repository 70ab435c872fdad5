"""Keys in place of patient ids."""

import os
from pathlib import Path

import pytest

from keras_ecg_mae.cohort.patient_key import create_keys, read_keys, secret_path
from keras_ecg_mae.config import Cohort
from keras_ecg_mae.errors import ConfigError, DatasetError


def test_a_new_secret_is_its_owners_alone(tmp_path: Path) -> None:
    path = str(tmp_path / "new" / "secret")
    made = create_keys(path)
    assert os.stat(path).st_mode & 0o777 == 0o600
    read = read_keys(path)
    assert read is not None
    assert read.key("patient 1") == made.key("patient 1")
    assert len(made.key("patient 1")) == 32


def test_keys_differ_by_patient_and_by_secret(tmp_path: Path) -> None:
    first, second = create_keys(str(tmp_path / "1")), create_keys(str(tmp_path / "2"))
    keys = {first.key("p"), first.key("q"), second.key("p"), first.fingerprint, second.fingerprint}
    assert len(keys) == 5


def test_no_secret_is_none(tmp_path: Path) -> None:
    assert read_keys(str(tmp_path / "nothing")) is None


def test_a_short_secret_is_refused(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("hello\n")
    with pytest.raises(DatasetError, match=r"Expected a secret of at least 16 bytes .* Received 5"):
        read_keys(str(tmp_path / "secret"))


def test_the_secret_lies_beside_the_dataset(tmp_path: Path) -> None:
    assert secret_path(Cohort(output=f"{tmp_path}/dataset/")) == f"{tmp_path}/dataset.key"


def test_the_secret_never_lies_inside(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "dataset")
    for inside in (tmp_path / "dataset/secret", tmp_path / "link/secret", tmp_path / "dataset/../dataset/a/b"):
        with pytest.raises(ConfigError, match="outside the dataset folder"):
            secret_path(Cohort(output=str(tmp_path / "dataset"), patient_key_file=str(inside)))


def test_a_dataset_in_cloud_storage_needs_a_local_secret(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="Expected --patient_key_file"):
        secret_path(Cohort(output="s3://bucket/dataset"))
    assert secret_path(Cohort(output="s3://bucket/dataset", patient_key_file="secret")) == "secret"
