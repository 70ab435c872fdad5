"""A `prepare` that is stopped, by whatever and whenever, and given again."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from keras_ecg_mae import spec
from keras_ecg_mae.config import Cohort, Quality, Signal
from keras_ecg_mae.dataset import prepare, read_manifest
from keras_ecg_mae.dataset.shards import ShardTask, read_result, remove_duplicates, write_shard
from keras_ecg_mae.errors import DatasetError

if TYPE_CHECKING:
    from tests.dataset.conftest import Contents, Hospital

from tests.dataset.conftest import SECRET

REPOSITORY = Path(__file__).resolve().parents[2]

# Ends the process, as a SIGKILL would, before its nth file gets its name, for n from 0 until one run gets to its end,
# and after the last one; gives each command again. `prepare` writes everything aside first, so these are all states.
KILL_AT_EVERY_FILE = """
import os, sys
from itertools import count
from keras_ecg_mae.config import Cohort, Quality
from keras_ecg_mae.dataset import prepare
from keras_ecg_mae.recordings import isolation

recordings, labels, secret, folder = sys.argv[1:]
rename, KILLED = os.replace, 9

def run(output, last, after=False):
    renames = count()

    def rename_or_die(*arguments):
        at_the_last = next(renames) == last
        if at_the_last and not after:
            os._exit(KILLED)
        rename(*arguments)
        if at_the_last:
            os._exit(KILLED)

    process = os.fork()
    if process:
        return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
    os.replace = rename_or_die
    isolation._State.disposable = True  # a process to read in, for each of these, would take a second
    cohort = Cohort(
        recordings=recordings, labels=labels, output=output, patient_key_file=secret, workers=1, records_per_shard=9
    )
    prepare(cohort, quality=Quality(reject=("duplicate_signal",)))
    os._exit(0)

for last in count():
    status = run(f"{folder}/{last}", last)
    if status == 0:
        break
    assert status == KILLED, status
    assert run(f"{folder}/{last}", None) == 0
assert run(f"{folder}/after", last - 1, after=True) == KILLED
assert run(f"{folder}/after", None) == 0
print(last)
"""


@pytest.fixture
def cohort(hospital: Hospital, tmp_path: Path, secret: str) -> Callable[..., Cohort]:
    """The hospital's, in small shards; called with the name of the output folder."""

    def make(name: str, **settings: object) -> Cohort:
        return hospital.cohort(
            tmp_path / name, **{"patient_key_file": secret, "workers": 1, "records_per_shard": 9, **settings}
        )

    return make


@pytest.fixture(scope="module")
def whole(hospital: Hospital, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The dataset of `cohort` from a `prepare` that nothing stopped."""
    folder = tmp_path_factory.mktemp("whole")
    (folder / "secret").write_text(SECRET)
    settings = {"patient_key_file": str(folder / "secret"), "workers": 1, "records_per_shard": 9}
    prepare(hospital.cohort(folder / "dataset", **settings))
    return folder / "dataset"


@pytest.fixture
def stop_at(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Makes `prepare` be interrupted after so many recordings."""

    def stop(last: int) -> None:
        recordings = iter(range(1000))

        def interrupted(task: ShardTask, advance: Callable[[], object]) -> None:
            def advance_and_stop() -> None:
                advance()
                if next(recordings) == last:
                    raise KeyboardInterrupt

            write_shard(task, advance_and_stop)

        monkeypatch.setattr("keras_ecg_mae.dataset.writing.write_shard", interrupted)

    return stop


def test_an_interrupted_prepare_goes_on_with_its_finished_shards_untouched(
    cohort: Callable[..., Cohort],
    tmp_path: Path,
    stop_at: Callable[[int], None],
    monkeypatch: pytest.MonkeyPatch,
    contents: Contents,
    whole: Path,
) -> None:
    stop_at(25)
    with pytest.raises(KeyboardInterrupt):
        prepare(cohort("dataset"))
    left = {name: content for name, content in contents(tmp_path / "dataset").items() if not name.startswith(".")}
    assert left.items() <= contents(whole).items()  # no half shard
    assert len(left) > 2
    with pytest.raises(DatasetError, match="Expected a dataset folder that prepare finished"):
        read_manifest(str(tmp_path / "dataset"))
    before = {name: (tmp_path / "dataset" / name).stat() for name in left}
    monkeypatch.undo()
    prepare(cohort("dataset"))
    assert contents(tmp_path / "dataset") == contents(whole)
    assert os.listdir(tmp_path / "dataset").count(".unfinished") == 0
    for name, stat in before.items():
        now = (tmp_path / "dataset" / name).stat()
        assert (now.st_ino, now.st_mtime_ns) == (stat.st_ino, stat.st_mtime_ns), name


def test_killed_at_any_moment_it_gives_the_same_bytes_in_the_end(
    twins: Hospital, tmp_path: Path, secret: str, contents: Contents
) -> None:
    folder = tmp_path / "killed"
    answer = subprocess.run(
        [sys.executable, "-c", KILL_AT_EVERY_FILE, twins.recordings, twins.labels, secret, folder],
        check=True,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
    )
    outputs = [contents(output) for output in sorted(folder.iterdir())]
    assert len(outputs) == int(answer.stdout) + 2 > 12
    assert all(output == outputs[0] for output in outputs)
    assert b"duplicate_signal" in outputs[0]["rejected.csv"]


def test_processes_end_with_the_one_that_was_killed(
    cohort: Callable[..., Cohort], tmp_path: Path, contents: Contents, whole: Path
) -> None:
    settings = cohort("dataset")
    command = [sys.executable, "-m", "keras_ecg_mae.prepare", "--workers=2", "--records_per_shard=9"]
    command += [f"--{name}={getattr(settings, name)}" for name in ("recordings", "labels", "output")]
    command += [f"--patient_key_file={settings.patient_key_file}"]
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        start_new_session=True,
    ) as process:
        try:
            while not list((tmp_path / "dataset").rglob("*.result.json")):
                assert process.poll() is None, process.communicate()[0]
                time.sleep(0.005)
            process.kill()
            process.communicate(timeout=20)  # which ends when the last process has closed its end of the pipe
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
    prepare(settings)
    assert contents(tmp_path / "dataset") == contents(whole)


def test_what_differs_is_not_mixed(
    cohort: Callable[..., Cohort], tmp_path: Path, stop_at: Callable[[int], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    stop_at(25)
    with pytest.raises(KeyboardInterrupt):
        prepare(cohort("dataset"))
    monkeypatch.undo()
    for settings, quality, sentence in (
        ({"split_seed": 1}, Quality(), "--split_seed 0 there, 1 now"),
        ({"long_recordings": "middle"}, Quality(), "--long_recordings 'first' there, 'middle' now"),
        ({}, Quality(reject=("duplicate_signal",)), r"--quality_reject .* there, .*'duplicate_signal'.* now"),
    ):
        with pytest.raises(DatasetError, match=rf"finished shards of one that differs: {sentence}\. Give its command"):
            prepare(cohort("dataset", **settings), quality=quality)
    Path(tmp_path / "secret").write_text("another secret that is long enough")
    with pytest.raises(DatasetError, match=r"patient keys .* is another one or missing"):
        prepare(cohort("dataset"))
    Path(tmp_path / "secret").unlink()
    with pytest.raises(DatasetError, match=r"patient keys .* is another one or missing"):
        prepare(cohort("dataset"))
    assert not (tmp_path / "secret").exists()


def test_versions_do_not_keep_it_from_going_on_but_are_all_named(
    cohort: Callable[..., Cohort], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, whole: Path
) -> None:
    """pydicom is upgraded twice."""
    for version in ("4.0.0", "4.0.1"):
        with monkeypatch.context() as patch:
            patch.setattr("keras_ecg_mae.dataset.writing.metadata.version", lambda library, version=version: version)
            patch.setattr("keras_ecg_mae.dataset.writing.find_duplicates", interrupt)
            with pytest.raises(KeyboardInterrupt):
                prepare(cohort("dataset"))
    shards = {path: path.stat().st_ino for path in (tmp_path / "dataset").rglob("*.tfrecord")}
    manifest = prepare(cohort("dataset"))
    assert all(path.stat().st_ino == inode for path, inode in shards.items())
    expected = read_manifest(str(whole))
    assert manifest.versions["pydicom"] == f"4.0.0, 4.0.1, {expected.versions['pydicom']}"
    assert manifest.shards == expected.shards
    assert prepare(cohort("dataset")) == manifest


def test_shards_of_another_format_are_not_gone_on_with(
    cohort: Callable[..., Cohort], stop_at: Callable[[int], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    stop_at(25)
    with pytest.raises(KeyboardInterrupt):
        prepare(cohort("dataset"))
    monkeypatch.undo()
    monkeypatch.setattr("keras_ecg_mae.dataset.writing.FORMAT", 99)
    with pytest.raises(DatasetError, match="99 now"):
        prepare(cohort("dataset"))


def test_a_shard_that_was_cut_off_since_is_written_again(
    cohort: Callable[..., Cohort],
    tmp_path: Path,
    stop_at: Callable[[int], None],
    monkeypatch: pytest.MonkeyPatch,
    contents: Contents,
    whole: Path,
) -> None:
    stop_at(25)
    with pytest.raises(KeyboardInterrupt):
        prepare(cohort("dataset"))
    monkeypatch.undo()
    with open(next((tmp_path / "dataset").glob("*/*.tfrecord")), "r+b") as shard:
        shard.truncate(1000)
    prepare(cohort("dataset"))
    assert contents(tmp_path / "dataset") == contents(whole)


@pytest.mark.parametrize(
    ("name", "said", "again"),
    [
        ("signal.json", {"sampling_rate_hz": 500, "unit": "uV", "leads": spec.LEADS[::-1]}, 4),
        ("b.json", {"leads": spec.LEADS[::-1]}, 1),
        ("b.json", None, 1),
        ("c.npy.json", {"sampling_rate_hz": 1000}, 1),
        ("e.json", {"sampling_rate_hz": 1000}, 0),
    ],
)
def test_sidecars_that_change_meanwhile_count_for_all_recordings_or_none(
    arrays: Hospital,
    tmp_path: Path,
    secret: str,
    contents: Contents,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    said: dict[str, object] | None,
    again: int,
) -> None:
    def cohort(output: str) -> Cohort:
        return arrays.cohort(tmp_path / output, patient_key_file=secret, workers=1, records_per_shard=1)

    with monkeypatch.context() as patch:
        patch.setattr("keras_ecg_mae.dataset.writing.find_duplicates", interrupt)
        with pytest.raises(KeyboardInterrupt):
            prepare(cohort("dataset"))
    shards = {path: path.stat().st_ino for path in (tmp_path / "dataset").rglob("*.tfrecord")}
    if said is None:
        (arrays.recordings / name).unlink()
    else:
        (arrays.recordings / name).write_text(json.dumps(said))
    prepare(cohort("dataset"))
    prepare(cohort("whole"))
    assert contents(tmp_path / "dataset") == contents(tmp_path / "whole")
    assert sum(path.stat().st_ino != inode for path, inode in shards.items()) == again


def interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def test_a_shard_that_was_damaged_since_is_written_again(
    cohort: Callable[..., Cohort],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    contents: Contents,
    caplog: pytest.LogCaptureFixture,
    whole: Path,
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("keras_ecg_mae.dataset.writing.find_duplicates", interrupt)
        with pytest.raises(KeyboardInterrupt):
            prepare(cohort("dataset"))
    shard = next((tmp_path / "dataset").glob("*/*.tfrecord"))
    damaged = bytearray(shard.read_bytes())
    damaged[5000:9000] = bytes(4000)
    shard.write_bytes(damaged)
    caplog.set_level("INFO", logger="absl")
    prepare(cohort("dataset"))
    assert contents(tmp_path / "dataset") == contents(whole)
    total = len(list((tmp_path / "dataset").glob("*/*.tfrecord")))
    assert f"{shard} is written again: it is damaged" in caplog.text
    assert f"{total - 1} of {total} shards were finished and are as they were written" in caplog.text


def test_a_damaged_shard_is_not_copied(
    cohort: Callable[..., Cohort], tmp_path: Path, stop_at: Callable[[int], None]
) -> None:
    stop_at(25)
    with pytest.raises(KeyboardInterrupt):
        prepare(cohort("dataset"))
    folder = str(tmp_path / "dataset")
    shard = next((tmp_path / "dataset").glob("*/*.tfrecord"))
    content = bytearray(shard.read_bytes())
    content[6] ^= 1  # of the first record's length
    shard.write_bytes(content)
    file = str(shard.relative_to(folder))
    assert read_result(folder, file) is not None
    task = ShardTask(folder, file, cohort("dataset"), Signal(), Quality(), duplicates=(0,))
    with pytest.raises(DatasetError, match=r"Expected a shard of \d recordings\. Received one that is damaged"):
        remove_duplicates(task, lambda: None)
    assert shard.read_bytes() == content
    assert not list((tmp_path / "dataset").rglob(".*.partial"))
