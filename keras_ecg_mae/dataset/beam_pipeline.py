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

from keras_ecg_mae.dataset.pool import Step, Task
from keras_ecg_mae.dataset.shard_result import UNFINISHED
from keras_ecg_mae.errors import ConfigError, DatasetError
from keras_ecg_mae.files import storage_path, whole_file


def work_in_beam(
    step: Step[Task], tasks: Iterable[Task], folder: str, runner: str, runner_arguments: Sequence[str]
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
    paths = [_store(folder, number, task) for number, task in enumerate(tasks)]
    logging.info("%d shards go to %s.", len(paths), runner)
    with running_pipeline(runner, runner_arguments, "goes on with the shards that are finished") as pipeline:
        stored = pipeline | "Shards" >> beam.Create(paths) | "Deal out" >> beam.Reshuffle()
        stored | step.__name__ >> beam.Map(_work, step)


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
    try:
        with beam.Pipeline(options=options.PipelineOptions([f"--runner={runner}", *runner_arguments])) as pipeline:
            yield pipeline
    except Exception as error:  # runners raise what they like
        last = str(error).strip().splitlines()[-1:] or [""]
        raise DatasetError(
            f"--runner={runner}: Expected the pipeline to finish. Received {type(error).__name__}: {last[0]} The same "
            f"command {again}."
        ) from error


def _store(folder: str, number: int, task: Task) -> str:
    path = f"{folder}/{UNFINISHED}/{number:06d}.task"
    with whole_file(path) as file:
        pickle.dump(task, file)
    return path


def _work(path: str, step: Step[Task]) -> None:
    with storage_path(path).open("rb") as file:
        task = pickle.load(file)
    step(task, _nothing)


def _nothing() -> None:
    """No progress of our own: the runner shows it."""
