"""Predictions as a step of an Apache Beam pipeline, for more recordings than one machine is to read.

Every worker needs this package, and reaches the recordings, and the export or the server, under the same names as the
process that starts the pipeline.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import apache_beam as beam
import tensorflow as tf

from keras_ecg_mae.config import Config
from keras_ecg_mae.dataset import read_manifest
from keras_ecg_mae.dataset.beam_pipeline import running_pipeline
from keras_ecg_mae.dataset.example import decode
from keras_ecg_mae.errors import ConfigError
from keras_ecg_mae.serving.predict import Recording, load_model, predict_recordings, stored_recordings


def predict_in_beam(config: Config, runner_arguments: Sequence[str]) -> None:
    """Predicts what `--files` or `--dataset` names, and waits for the end.

    Args:
        config: `prediction.predictions` is what the names of the files written begin with.
        runner_arguments: further pipeline options, `--name=value`.

    Raises:
        ConfigError: recordings or a place for the predictions are not given.
        DatasetError: there is no such dataset, or the pipeline failed.
    """
    settings, dataset = config.prediction, config.training.dataset
    settings.require("predictions")
    if bool(settings.files) == bool(dataset) or settings.files == "-":
        raise ConfigError(
            f"Expected --files=LIST or --dataset with --runner={config.cohort.runner}. "
            f"Received {'both' if dataset and settings.files else 'neither a list nor a dataset'}."
        )
    with running_pipeline(config.cohort.runner, runner_arguments, "begins anew") as pipeline:
        if dataset:
            manifest = read_manifest(dataset)
            shards = [manifest.shard_path(shard) for shard in manifest.shards]
            recordings = pipeline | beam.Create(shards) | beam.Reshuffle() | beam.io.ReadAllFromTFRecord()
        else:
            recordings = pipeline | beam.io.ReadFromText(settings.files) | beam.Filter(bool)  # no blank lines
        recordings | PredictRecordings(config) | beam.io.WriteToText(settings.predictions, file_name_suffix=".jsonl")


class PredictRecordings(beam.PTransform):
    """Recordings -> one JSON line each, as `--predictions` has them: a step for a pipeline of one's own.

    Args:
        config: the model, and what becomes of files. The recordings are paths; with `config.training.dataset`,
            serialized tf.Examples of a dataset.
    """

    def __init__(self, config: Config):
        super().__init__()
        self._config = config

    def expand(self, recordings: Any) -> Any:
        size = self._config.prediction.predict_batch_size
        batches = recordings | beam.BatchElements(min_batch_size=size, max_batch_size=size)
        return batches | beam.ParDo(_Predict(self._config))


class _Predict(beam.DoFn):
    """A batch of recordings -> JSON lines. A worker loads the model once."""

    def __init__(self, config: Config):
        self._config = config

    def setup(self) -> None:
        self._model, self._loader = load_model(self._config)

    def process(self, batch: list[Any]) -> Iterator[str]:
        recordings: Iterable[Recording]
        if self._config.training.dataset:
            features = decode(tf.constant(batch), ["record_id", "ecg"])
            recordings = stored_recordings({name: value.numpy() for name, value in features.items()})
        else:
            recordings = self._loader.recordings(batch)
        size = self._config.prediction.predict_batch_size
        for predictions in predict_recordings(self._model, recordings, batch_size=size):
            for prediction in predictions:
                yield prediction.line(self._model)
