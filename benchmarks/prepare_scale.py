"""Memory and time of `prepare` for 10,000 and 100,000 recordings, and what a kill half-way changes.

    python -m benchmarks.prepare_scale

Simulates 2,000 recordings below runs/prepare_scale, and tells them to be 100,000: each file of samples gets fifty
headers with slightly different gains, so that no two recordings have the same samples. Then `prepare` runs over the
first 10,000 rows of the table and over all; over all once more, killed (SIGKILL) when half of its shards are finished,
and given again. Ends with status 1 where memory for the larger one is over 1.5 times as high, where a recording takes
over 1.3 times as long, or where the resumed dataset differs in a byte. Needs 30 GB.
"""

import argparse
import csv
import hashlib
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from benchmarks.commands import command_line, run, say, table

FOLDER = Path("runs/prepare_scale")
FILES, HEADERS = 2000, 50
MOST_MEMORY, MOST_TIME = 1.5, 1.3
STEP = 1e-3  # of the gain, between two headers: some microvolts of a QRS complex
MB = 1 << 20


@dataclass(frozen=True)
class Measured:
    """One run: its time, and the most memory that the process that was started, any that it started, and all had."""

    seconds: float
    parent_mb: float
    worker_mb: float
    all_mb: float


def make_recordings(recordings: Path) -> list[dict[str, str]]:
    """Simulates, multiplies the headers, and returns the rows of the table."""
    run(
        "simulate",
        f"--recordings={recordings}",
        f"--labels={recordings}/simulated.csv",
        f"--simulate_patients={FILES * 7 // 10}",  # some 1.5 recordings each
    )
    with (recordings / "simulated.csv").open(newline="") as file:
        simulated = list(csv.DictReader(file))
    rows = []
    for number in range(HEADERS):
        for row in simulated:
            path = f"{row['path']}_{number:02d}"
            header = (recordings / f"{row['path']}.hea").read_text()
            (recordings / f"{path}.hea").write_text(with_gain(header, 1 + number * STEP))
            identity = {"path": path, "record_id": path, "patient_id": f"{row['patient_id']}_{number:02d}"}
            rows.append({**row, **identity})
    return rows


def with_gain(header: str, factor: float) -> str:
    """A WFDB header whose signals have other gains; the checksums of samples are not theirs to change."""
    first, *signals = header.splitlines()
    return "\n".join([first, *(line if line.startswith("#") else _with_gain(line, factor) for line in signals)]) + "\n"


def _with_gain(line: str, factor: float) -> str:
    file, kind, gain, *rest = line.split()
    number, _, baseline = gain.partition("(")
    return " ".join([file, kind, f"{float(number) * factor:.9g}({baseline}", *rest])


def write_table(path: Path, rows: list[dict[str, str]]) -> None:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def resident_bytes(process: int, field: str) -> int:
    """`VmRSS`, what a process has, or `VmHWM`, the most that it had; 0 where it has ended."""
    try:
        lines = Path(f"/proc/{process}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(field + ":")), 0)


def children(process: int) -> list[int]:
    try:
        found = [int(child) for child in Path(f"/proc/{process}/task/{process}/children").read_text().split()]
    except OSError:
        return []
    return found + [grandchild for child in found for grandchild in children(child)]


def prepare(output: Path, labels: Path, options: argparse.Namespace, kill_at: int = 0) -> Measured:
    """Runs `prepare` to its end, or kills it once `kill_at` shards are finished."""
    command = command_line(
        "prepare",
        f"--recordings={FOLDER}/recordings",
        f"--labels={labels}",
        f"--output={output}",
        f"--patient_key_file={FOLDER}/key",
        f"--workers={options.processes}",
    )
    began = time.perf_counter()
    parent, worker, together = 0, 0, 0
    with (FOLDER / "log.txt").open("a") as log, subprocess.Popen(command, stdout=log, stderr=log) as process:
        while process.poll() is None:
            workers = children(process.pid)
            parent = max(parent, resident_bytes(process.pid, "VmHWM"))
            worker = max([worker, *(resident_bytes(child, "VmHWM") for child in workers)])
            together = max(together, sum(resident_bytes(one, "VmRSS") for one in (process.pid, *workers)))
            if kill_at and len(list(output.glob(".unfinished/*/*.json"))) >= kill_at:
                os.kill(process.pid, signal.SIGKILL)
                kill_at = 0
            time.sleep(0.5)
    if process.returncode not in (0, -signal.SIGKILL):
        sys.exit(f"prepare ended with status {process.returncode}: see {FOLDER}/log.txt.")
    return Measured(time.perf_counter() - began, parent / MB, worker / MB, together / MB)


def digests(folder: Path) -> dict[str, str]:
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            with path.open("rb") as file:
                digest = hashlib.sha256()
                while chunk := file.read(8 * MB):
                    digest.update(chunk)
            found[str(path.relative_to(folder))] = digest.hexdigest()
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recordings", type=int, default=100_000, help="of the larger dataset; a tenth in the smaller")
    parser.add_argument("--processes", type=int, default=len(os.sched_getaffinity(0)), help="of prepare")
    options = parser.parse_args()
    shutil.rmtree(FOLDER, ignore_errors=True)
    rows = make_recordings(FOLDER / "recordings")
    sizes = (options.recordings // 10, options.recordings)
    if len(rows) < options.recordings:
        sys.exit(f"Expected at most {len(rows)} recordings. Received {options.recordings}.")
    measured = []
    for size in sizes:
        write_table(FOLDER / f"{size}.csv", rows[:size])
        measured.append(prepare(FOLDER / str(size), FOLDER / f"{size}.csv", options))
        say(f"{size:,} recordings in {measured[-1].seconds:.0f} s")
    whole = FOLDER / str(sizes[1])
    expected = digests(whole)
    shutil.rmtree(whole)
    shards = sum(name.endswith(".tfrecord") for name in expected)
    killed = prepare(FOLDER / "resumed", FOLDER / f"{sizes[1]}.csv", options, kill_at=shards // 2)
    finished = len(list((FOLDER / "resumed").glob(".unfinished/*/*.json")))
    say(f"killed after {killed.seconds:.0f} s with {finished} of {shards} shards finished")
    again = prepare(FOLDER / "resumed", FOLDER / f"{sizes[1]}.csv", options)
    say(f"given again, it took {again.seconds:.0f} s")
    same = digests(FOLDER / "resumed") == expected
    shutil.rmtree(FOLDER)
    names = ["recordings", "s", "recordings a second", "peak MB: parent", "largest other process", "all at once"]
    cells = [
        [f"{size:,}", f"{run.seconds:.0f}", f"{size / run.seconds:.0f}"]
        + [f"{memory:.0f}" for memory in (run.parent_mb, run.worker_mb, run.all_mb)]
        for size, run in zip(sizes, measured, strict=True)
    ]
    small, large = measured
    memory = max(large.parent_mb / small.parent_mb, large.worker_mb / small.worker_mb, large.all_mb / small.all_mb)
    pace = large.seconds / small.seconds * sizes[0] / sizes[1]
    say("\n" + table(names, cells))
    say(
        f"\nTen times the recordings: at most {memory:.2f} times the memory, {pace:.2f} times the time for each. "
        f"Killed half-way and given again, the dataset is {'the same to the byte' if same else 'ANOTHER ONE'}."
    )
    return 0 if same and memory <= MOST_MEMORY and pace <= MOST_TIME else 1


if __name__ == "__main__":
    sys.exit(main())
