"""Shards written by an Apache Beam pipeline: on a cluster, by the same steps as on one machine.

Every worker needs this package, and reaches the recordings and the dataset folder under the same names as the process
that starts the pipeline: through a shared file system, or, for the dataset folder, in cloud storage.
"""

import pickle
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from typing import Any

from absl import logging

from keras_ecg_mae.dataset.runners import Step
from keras_ecg_mae.dataset.shards import UNFINISHED, ShardTask
from keras_ecg_mae.errors import ConfigError, DatasetError
from keras_ecg_mae.files import storage_path, write_whole


def run_in_beam(
    step: Step, tasks: Iterable[ShardTask], folder: str, runner: str, runner_arguments: Sequence[str]
) -> None:
    """Does a step with each task in a pipeline, and waits for its end.

    Tasks hold a shard's rows of the table, more in all than a runner takes as part of a pipeline (10 MB on Dataflow):
    they go into the dataset folder's hidden one, and their names through the pipeline.

    Args:
        step: a function of a module.
        tasks: what to do, stored before the pipeline starts.
        folder: the dataset folder.
        runner: its name, as `--runner` has it.
        runner_arguments: further pipeline options, `--name=value`.

    Raises:
        ConfigError: Apache Beam is not installed.
        DatasetError: the pipeline failed.
    """
    beam = import_beam(runner)
    paths = []
    for number, task in enumerate(tasks):
        paths.append(f"{folder}/{UNFINISHED}/{number:06d}.task")
        write_whole(paths[-1], pickle.dumps(task))
    logging.info("%d shards go to %s.", len(paths), runner)
    with running_pipeline(runner, runner_arguments, "goes on with the shards that are finished") as pipeline:
        stored = pipeline | "Shards" >> beam.Create(paths) | "Deal out" >> beam.Reshuffle()
        stored | step.__name__ >> beam.Map(_run_stored, step)


# Beam does not know it by its short name.
_LONG_NAMES = {"DaskRunner": "apache_beam.runners.dask.dask_runner.DaskRunner"}


def import_beam(runner: str) -> Any:
    """Apache Beam's module. Raises `ConfigError` where it is not installed."""
    try:
        return import_module("apache_beam")
    except ImportError as error:
        raise ConfigError(
            f"Expected Apache Beam for --runner={runner}. Received none: pip install 'keras-ecg-mae[beam]'."
        ) from error


@contextmanager
def running_pipeline(runner: str, runner_arguments: Sequence[str], again: str) -> Iterator[Any]:
    """A pipeline to build, which runs to its end when the block has ended.

    Args:
        runner: its name, as `--runner` has it. runner_arguments: further pipeline options.
        again: what the same command does after a failure, in words.

    Raises:
        ConfigError: Apache Beam is not installed. DatasetError: the pipeline failed.
    """
    beam = import_beam(runner)
    options: Any = import_module("apache_beam.options.pipeline_options")
    name = _LONG_NAMES.get(runner, runner)
    try:
        with beam.Pipeline(options=options.PipelineOptions([f"--runner={name}", *runner_arguments])) as pipeline:
            yield pipeline
    except Exception as error:  # runners raise what they like
        last = str(error).strip().splitlines()[-1:] or [""]
        raise DatasetError(
            f"--runner={runner}: Expected the pipeline to finish. Received {type(error).__name__}: {last[0]} The same "
            f"command {again}."
        ) from error


def _run_stored(path: str, step: Step) -> None:
    # No progress of our own: the runner shows it.
    step(pickle.loads(storage_path(path).read_bytes()), lambda: None)
