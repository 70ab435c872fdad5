"""How fast are batches to learn from, beside the bare iteration of the same TFRecords?

    python -m benchmarks.input

Prepares a simulated cohort below runs/input and times whole epochs in turns: the records alone, as
`tf.data.TFRecordDataset` gives them, and the batches of a pretraining, decoded, shuffled, with mask noise and time
shifts. The files are in the page cache, so it is the processors that are compared. Ends with a line of JSON.
"""

import argparse
import json
import shutil
import statistics
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from benchmarks.commands import make_cohort, say, table
from benchmarks.sides import machine

FOLDER = Path("runs/input")
BATCH = 64


def timed(iterate: Callable[[], Iterable[Any]], epochs: int) -> tuple[float, float]:
    """Seconds of the wall clock and of all processors that some epochs take."""
    began, used = time.perf_counter(), time.process_time()
    for _ in iterate():
        pass
    return (time.perf_counter() - began) / epochs, (time.process_time() - used) / epochs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--patients", type=int, default=1500)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=4, help="of each round: between two, the next must be ready")
    options = parser.parse_args()
    shutil.rmtree(FOLDER, ignore_errors=True)
    make_cohort(FOLDER, options.patients)

    import tensorflow as tf

    from keras_ecg_mae.dataset import Draws, read_manifest, training_batches
    from keras_ecg_mae.dataset.selection import training_shards

    manifest = read_manifest(str(FOLDER / "dataset"))
    shards = training_shards(manifest, labelled=False, splits=["train"])
    paths = [manifest.shard_path(shard) for shard in shards]
    records = sum(shard.records for shard in shards) // BATCH * BATCH

    def batches(draws: Draws) -> Callable[[], Iterable[Any]]:
        settings: dict[str, Any] = {"batch_size": BATCH, "epochs": options.epochs, "seed": 0, "labelled": False}
        return lambda: training_batches(manifest, **settings, draws=draws)

    ways: dict[str, Callable[[], Iterable[Any]]] = {
        "bare iteration": lambda: tf.data.TFRecordDataset(paths).take(records).repeat(options.epochs),
        "batches": batches(Draws()),
        "with mask noise": batches(Draws(mask_noise=True)),
        "with mask noise and time shifts": batches(Draws(mask_noise=True, time_shift=True)),
    }
    rounds = [{name: timed(way, options.epochs) for name, way in ways.items()} for _ in range(options.rounds + 1)][1:]
    bare = "bare iteration"
    rows, ratios = [], {}
    for name in ways:
        seconds, processors = (statistics.median(one[name][index] for one in rounds) for index in (0, 1))
        ratios[name] = statistics.median(one[bare][0] / one[name][0] for one in rounds)
        rows.append([name, f"{records / seconds:.0f}", f"{1e6 * processors / records:.0f}", f"{ratios[name]:.2f}"])
    say(
        f"{records} records an epoch, batches of {BATCH}, medians of {options.rounds} rounds of {options.epochs} epochs"
    )
    say(table(["what", "records/s", "processor us a record", "of bare iteration"], rows))
    say(json.dumps({"ratio": round(ratios["with mask noise and time shifts"], 3), **machine()}))
    shutil.rmtree(FOLDER)


if __name__ == "__main__":
    main()
