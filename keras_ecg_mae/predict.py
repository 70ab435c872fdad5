"""Prints a probability for each recording, with an export or a model server.

    python -m keras_ecg_mae.predict --model=saved_models/NAME FILE...
    python -m keras_ecg_mae.predict --model=NAME --server=localhost:8500 FILE...
    python -m keras_ecg_mae.predict --model=saved_models/NAME --dataset=DATASET
    find recordings -name '*.hea' | python -m keras_ecg_mae.predict --model=saved_models/NAME --files=- --format=json \\
        --predictions=predictions.jsonl

Exits with 1 where a recording could not be used; the others are predicted all the same. With --predictions, the same
command goes on behind the last prediction after an interruption. With --runner, an Apache Beam pipeline predicts what
--files or --dataset names, and writes PREDICTIONS-00000-of-00007.jsonl and so on, which alone tell of recordings that
could not be used:

    python -m keras_ecg_mae.predict --model=gs://B/saved_models/NAME --files=gs://B/list.txt --format=json \\
        --predictions=gs://B/predictions --runner=DataflowRunner -- --project=P --region=R
"""

import json
import os
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING

from keras_ecg_mae.command import run_command
from keras_ecg_mae.config import LOCAL, Config

if TYPE_CHECKING:
    from keras_ecg_mae.serving.predict import Predictor

SHOWN = ("prediction", "signal", "training.dataset", "cohort.runner")


def main(config: Config, files: list[str]) -> int:
    """Predicts every recording, one line each."""
    from keras_ecg_mae.dataset.beam_pipeline import import_beam
    from keras_ecg_mae.serving.predict import Predictor

    config.prediction.require("model")
    if config.cohort.runner != LOCAL:
        import_beam(config.cohort.runner)
        from keras_ecg_mae.serving.beam_prediction import predict_in_beam

        predict_in_beam(config, files)
        return 0
    predictor = Predictor(config, files)
    if config.prediction.predictions:
        written = predictor.write(config.prediction.predictions)
        sys.stdout.write(
            f"Predicted {written.now:,} recordings. Of {written.recordings:,} in {config.prediction.predictions}, "
            f"{written.unusable:,} could not be used.\n"
        )
        return int(written.unusable > 0)
    try:
        return _print(config, predictor)
    except BrokenPipeError:  # `| head` has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _print(config: Config, predictor: "Predictor") -> int:
    output, table, failed = predictor.model.output, config.prediction.format == "table", False
    if table:
        sys.stdout.write(f"{output}  file\n")
    for prediction in predictor.predictions():
        failed |= prediction.error is not None
        if not table:
            sys.stdout.write(json.dumps({**asdict(prediction), "label": predictor.model.label}) + "\n")
        elif prediction.probability is None:
            sys.stdout.write(f"{'-':>{len(output)}}  {prediction.path}: {prediction.error}\n")
        else:
            sys.stdout.write(f"{prediction.probability:>{len(output)}.4f}  {prediction.path}\n")
    return int(failed)


if __name__ == "__main__":
    run_command(main, SHOWN, arguments=True)
