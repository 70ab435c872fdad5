"""The run's record: every invocation of train, appended and never lost."""

import json
import sys
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keras_ecg_mae.errors import RunError
from keras_ecg_mae.runs.record import (
    Command,
    Dataset,
    expect_dataset,
    read_commands,
    record_command,
    this_command,
)

DATASET = Dataset("runs/dataset1", "0123", 400)


def command(stages: tuple[str, ...] = ("pretrain", "finetune"), title: str = "MAE") -> Command:
    return this_command(
        stages=stages, title=title, devices=["/physical_device:CPU:0"], dataset=DATASET, paper_column=""
    )


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
    assert trained["packages"]["tensorflow"].startswith("2.16")
    assert trained["python"] == ".".join(map(str, sys.version_info[:3]))
    assert trained["dataset"] == asdict(DATASET)
    assert {"began", "version", "git_revision", "host", "devices", "title"} <= set(trained)


@given(
    st.lists(
        st.tuples(st.text(max_size=5), st.lists(st.text(max_size=5), max_size=3), st.none() | st.text(max_size=5)),
        min_size=1,
        max_size=4,
    )
)
def test_commands_are_read_back(
    tmp_path_factory: pytest.TempPathFactory, entries: list[tuple[str, list[str], str | None]]
) -> None:
    run = tmp_path_factory.mktemp("run")
    commands = [
        replace(command(), title=title, command=words, stages=words, git_revision=revision)
        for title, words, revision in entries
    ]
    for item in commands:
        record_command(run, item)
    assert read_commands(run) == commands


@pytest.mark.parametrize("broken", ["{", "[]", "{}", '{"commands": []}', '{"commands": [{"dataset": {}}]}'])
def test_a_broken_record_is_named_and_kept(tmp_path: Path, broken: str) -> None:
    (tmp_path / "run.json").write_text(broken)
    with pytest.raises(RunError, match=r"run.json: Expected the record of a run. Received something else"):
        record_command(tmp_path, command())
    assert (tmp_path / "run.json").read_text() == broken


def test_another_dataset_is_refused_with_both_named(tmp_path: Path) -> None:
    expect_dataset(tmp_path, DATASET)
    record_command(tmp_path, command())
    expect_dataset(tmp_path, Dataset("moved/dataset1", "0123", 400))
    with pytest.raises(RunError, match=r"run.json: .* runs/dataset1 with .* 0123. Received runs/dataset2 with 4567"):
        expect_dataset(tmp_path, Dataset("runs/dataset2", "4567", 400))
