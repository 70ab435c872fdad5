"""Kills a training with SIGKILL at random moments, restarts it, and holds it against one that ran through.

    python -m benchmarks.kill_and_resume

Pretrains and fine-tunes a tiny model on a simulated cohort below runs/kill_and_resume: once to the end, and once, with
the same settings in another run folder, killed ten times. The moments are drawn by `--seed` and spread over both
stages: some at any time, some when files of a checkpoint appear, some when an epoch has just been written down. Then
it compares, bit for bit, every weight of both models and of the best epochs, and, line by line, `metrics.csv`, but for
the columns about the machine. Ends with status 1 where anything differs.
"""

import argparse
import io
import random
import re
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import h5py

from benchmarks.commands import command_line, make_cohort, metrics, say, table

FOLDER = Path("runs/kill_and_resume")
PATIENTS, BATCH = 120, 16
# Kills are drawn from as many epochs of pretraining as of fine-tuning, which tries two rates.
EPOCHS_PER_KILL = 2
ANY_TIME, SAVING, EPOCH = "any time", "checkpoint", "epoch's end"
# Of the moment, how long after it at most the signal is sent, in seconds, and how many of ten kills are at such one.
MOMENTS = {ANY_TIME: (5.0, 3), SAVING: (0.03, 5), EPOCH: (0.5, 2)}
POLL_S = 0.002
MACHINE = ("records_per_second", "input_wait_share", "host_memory_gib", "device_memory_gib")
WEIGHTS_IN_KERAS_FILE = "model.weights.h5"


@dataclass(frozen=True)
class Kill:
    """What is planned: `delay_s` after the next `moment`, once `epochs` have ended in both stages together."""

    epochs: int
    moment: str
    delay_s: float


def draw_kills(count: int, epochs: int, seed: int) -> list[Kill]:
    """One in each of `count` equal parts of the training, not in its last two epochs."""
    generator = random.Random(seed)
    moments = [moment for moment, (_, share) in MOMENTS.items() for _ in range(share)]
    generator.shuffle(moments)
    kills = []
    for index in range(count):
        moment = moments[index % len(moments)]
        first, last = (int(part * (epochs - 2) / count) for part in (index, index + 1))
        kills.append(Kill(generator.randrange(first, last), moment, generator.uniform(0, MOMENTS[moment][0])))
    return kills


def train_flags(dataset: str, run: Path, kills: int) -> list[str]:
    pretraining, finetuning = EPOCHS_PER_KILL * kills, EPOCHS_PER_KILL * kills // 2
    return [
        dataset,
        f"--run={run}",
        "--stages=pretrain,finetune",
        "--size=tiny",
        "--checkpoint_minutes=0.05",
        f"--pretrain_epochs={pretraining}",
        "--pretrain_warmup_epochs=1",
        f"--pretrain_batch_size={BATCH}",
        "--pretrain_base_learning_rate=1.6e-2",
        "--pretrain_validation_epochs=2",
        "--pretrain_time_shift",
        f"--finetune_epochs={finetuning}",
        f"--finetune_patience={finetuning}",
        f"--finetune_batch_size={BATCH}",
        "--finetune_learning_rates=1e-3,3e-4",
        "--finetune_time_shift",
    ]


def start(flags: list[str], log: Path) -> subprocess.Popen:
    with log.open("w") as file:
        return subprocess.Popen(command_line("train", *flags), stdout=file, stderr=subprocess.STDOUT)


def finish(process: subprocess.Popen, log: Path) -> None:
    if process.wait():
        sys.exit(f"{log.read_text()}\nThe training ended by itself with status {process.returncode}; that was its log.")


def trainings(run: Path) -> list[Path]:
    """Folders with a `metrics.csv`, or about to have one."""
    return [run / "pretrain", *sorted(path for path in run.glob("finetune/*") if path.is_dir())]


def changed(run: Path, names: str) -> float:
    """When a file of this name was last written in any training, in seconds since 1970; 0 where there is none."""
    return max((path.stat().st_mtime for folder in trainings(run) for path in folder.glob(names)), default=0.0)


def checkpoint_files(run: Path) -> set[Path]:
    return {path for folder in trainings(run) for path in folder.glob("checkpoints/*")}


def unfinished(run: Path) -> int:
    """Checkpoints that were still being written."""
    return sum(path.suffix == ".partial" for path in checkpoint_files(run))


def wait(process: subprocess.Popen, until: Callable[[], bool]) -> bool:
    """Whether it came before the process ended."""
    while process.poll() is None:
        if until():
            return True
        time.sleep(POLL_S)
    return False


def kill(process: subprocess.Popen, run: Path, plan: Kill) -> list[str] | None:
    """Waits for the moment and kills; what the table says of it. None where the training ended before."""
    began = time.time()

    def armed() -> bool:
        time.sleep(0.05)
        fresh = changed(run, "metrics.csv") > began  # so that every start comes further than the one before
        return fresh and sum(len(metrics(folder)) for folder in trainings(run)) >= plan.epochs

    if not wait(process, armed):
        return None
    files, epoch = checkpoint_files(run), changed(run, "metrics.csv")
    comes = {
        ANY_TIME: lambda: True,
        SAVING: lambda: not checkpoint_files(run) <= files,
        EPOCH: lambda: changed(run, "metrics.csv") > epoch,
    }
    if not wait(process, comes[plan.moment]):
        return None
    time.sleep(plan.delay_s)
    process.kill()
    now = time.time()
    if process.wait() != -signal.SIGKILL:
        return None
    latest = max(trainings(run), key=lambda folder: max(path.stat().st_mtime for path in [folder, *folder.rglob("*")]))
    rows = metrics(latest)
    repeated = now - max(changed(run, "checkpoints/*.npz"), began)
    step = rows[-1]["step"] if rows else "0"
    return [str(latest.relative_to(run)), plan.moment, step, str(unfinished(run)), f"{repeated:.1f}"]


def resumed(log: Path) -> str:
    found = re.search(r"goes on after step (\d+)", log.read_text())
    return found.group(1) if found else "0"


def arrays(path: Path) -> dict[str, tuple]:
    """Every array of a `.keras` or `.weights.h5` file: its name -> type, shape and bytes."""
    content = path.read_bytes()
    if path.suffix == ".keras":
        content = zipfile.ZipFile(io.BytesIO(content)).read(WEIGHTS_IN_KERAS_FILE)
    found: dict[str, tuple] = {}

    def note(name: str, item: object) -> None:
        if isinstance(item, h5py.Dataset):
            found[name] = (item.dtype, item.shape, item[()].tobytes())

    with h5py.File(io.BytesIO(content)) as file:
        file.visititems(note)
    return found


def results(run: Path) -> dict[str, dict]:
    """What has to be the same: a file's name -> its parts by name."""
    models = [*run.rglob("*.keras"), *(max(folder.glob("best/[0-9]*.weights.h5")) for folder in trainings(run))]
    found: dict[str, dict] = {str(path.relative_to(run)): arrays(path) for path in models}
    for folder in trainings(run):
        rows = [{name: text for name, text in row.items() if name not in MACHINE} for row in metrics(folder)]
        found[f"{folder.relative_to(run)}/metrics.csv"] = {f"line {at}": row for at, row in enumerate(rows, start=2)}
    return found


def compare(whole: dict[str, dict], killed: dict[str, dict]) -> tuple[list[str], bool]:
    """A line a file, and whether all are the same."""
    lines, same = [], True
    for name in sorted(whole.keys() | killed.keys()):
        one, other = whole.get(name, {}), killed.get(name, {})
        differing = [part for part in sorted(one.keys() | other.keys()) if one.get(part) != other.get(part)]
        same &= bool(one) and not differing
        kind = "lines" if name.endswith(".csv") else "arrays"
        verdict = f"{len(differing)} DIFFER, first {differing[0]}" if differing else "the same"
        lines.append(f"{name}: {len(one)} {kind}, {verdict}")
    return lines, same


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=10, help="the trainings grow with them")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    options = parser.parse_args()
    shutil.rmtree(FOLDER, ignore_errors=True)
    dataset = make_cohort(FOLDER, PATIENTS)
    whole, killed = FOLDER / "whole", FOLDER / "killed"
    began, log = time.monotonic(), FOLDER / "whole.log"
    finish(start(train_flags(dataset, whole, options.kills), log), log)
    say(f"\nUninterrupted in {time.monotonic() - began:.0f} s.")

    flags, began = train_flags(dataset, killed, options.kills), time.monotonic()
    rows: list[list[str]] = []
    logs: list[Path] = []
    for plan in [*draw_kills(options.kills, 2 * EPOCHS_PER_KILL * options.kills, options.seed), None]:
        logs.append(FOLDER / f"killed-{len(logs):02}.log")
        process = start(flags, logs[-1])
        row = kill(process, killed, plan) if plan else None
        if row is None:
            finish(process, logs[-1])
            break
        rows.append([str(len(rows) + 1), *row])
        say(f"kill {len(rows)}: {', '.join(row[:2])}")
    say(f"Killed {len(rows)} times, in {time.monotonic() - began:.0f} s.\n")
    header = ["kill", "stage", "moment", "last epoch's step", "files unfinished", "seconds repeated"]
    shown = [[*row, resumed(log)] for row, log in zip(rows, logs[1:], strict=True)]
    say(table([*header, "went on after step"], shown))
    lines, same = compare(results(whole), results(killed))
    say("\n".join(["", *lines]))
    if len(rows) < options.kills:
        say(f"\nOnly {len(rows)} of {options.kills} kills came before the end.")
        return 1
    say(f"\n{'The same, bit for bit.' if same else 'NOT the same.'}")
    return 0 if same else 1


if __name__ == "__main__":
    sys.exit(main())
