"""The run's record: every invocation of train, appended and never lost."""

import json
import sys
from dataclasses import asdict, replace
from importlib import metadata
from pathlib import Path

import pytest

from keras_ecg_mae.errors import RunError
from keras_ecg_mae.runs.fingerprint import check_dataset
from keras_ecg_mae.runs.record import (
    Command,
    Dataset,
    read_commands,
    record_command,
    this_command,
)

DATASET = Dataset("runs/dataset1", "0123", 400)


def command(stages: tuple[str, ...] = ("pretrain", "finetune"), title: str = "MAE") -> Command:
    return this_command(stages=stages, title=title, paper_column="", devices=["CPU:0"], dataset=DATASET)


def test_each_command_is_appended_and_says_what_it_ran_with(tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert read_commands(run) == []
    record_command(run, command())
    first = (run / "run.json").read_text()
    record_command(run, command(stages=("evaluate",), title=""))
    record_command(run, command(stages=("evaluate",), title=""))
    trained, *later = json.loads((run / "run.json").read_text())["commands"]
    assert [trained] == json.loads(first)["commands"]
    assert [entry["stages"] for entry in later] == [["evaluate"], ["evaluate"]]
    assert trained["stages"] == ["pretrain", "finetune"]
    assert trained["command"] == sys.argv
    assert trained["packages"]["tensorflow"] == metadata.version("tensorflow")
    assert trained["python"] == ".".join(map(str, sys.version_info[:3]))
    assert trained["dataset"] == asdict(DATASET)
    assert {"began", "version", "git_revision", "host", "devices", "title"} <= set(trained)


def test_commands_are_read_back(tmp_path: Path) -> None:
    texts = ["", "--title=a b", "\u00e9\u732b", 'say "x"\n']
    commands = [
        replace(command(), title=text, command=texts, stages=(), git_revision=revision)
        for text, revision in zip(texts, [None, "0123abc", "", "x-dirty"], strict=True)
    ]
    for item in commands:
        record_command(tmp_path, item)
    assert read_commands(tmp_path) == [replace(item, stages=[]) for item in commands]


@pytest.mark.parametrize("broken", ["{", "[]", "{}", '{"commands": []}', '{"commands": [{"dataset": {}}]}'])
def test_a_broken_record_is_named_and_kept(tmp_path: Path, broken: str) -> None:
    (tmp_path / "run.json").write_text(broken)
    with pytest.raises(RunError, match=r"run.json: Expected the record of a run. Received something else"):
        record_command(tmp_path, command())
    assert (tmp_path / "run.json").read_text() == broken


def test_another_dataset_is_refused_with_both_named(tmp_path: Path) -> None:
    check_dataset(tmp_path, DATASET)
    record_command(tmp_path, command())
    check_dataset(tmp_path, Dataset("moved/dataset1", "0123", 400))
    with pytest.raises(RunError, match=r"run.json: .* runs/dataset1 with .* 0123. Received runs/dataset2 with 4567"):
        check_dataset(tmp_path, Dataset("runs/dataset2", "4567", 400))
