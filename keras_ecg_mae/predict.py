"""Prints a probability for each recording, with an export or a model server.

    python -m keras_ecg_mae.predict --model=saved_models/NAME FILE...
    python -m keras_ecg_mae.predict --model=NAME --server=localhost:8500 FILE...
    python -m keras_ecg_mae.predict --model=saved_models/NAME --dataset=DATASET
    find recordings -name '*.hea' | python -m keras_ecg_mae.predict --model=saved_models/NAME --files=- --format=json \\
        --predictions=predictions.jsonl

Exits with 1 where a recording could not be used; the others are predicted all the same. With --predictions, the same
command goes on behind the last prediction after an interruption.
"""

import json
import sys
from dataclasses import asdict

from keras_ecg_mae.command import run_command
from keras_ecg_mae.config import Config


def main(config: Config, files: list[str]) -> int:
    """Predicts every recording, one line each."""
    from keras_ecg_mae.serving.predicting import Predicting

    config.prediction.require("model")
    predicting = Predicting(config, files)
    if config.prediction.predictions:
        written, unusable = predicting.write(config.prediction.predictions)
        sys.stdout.write(
            f"Predicted {written:,} recordings, {unusable:,} of them unusable: {config.prediction.predictions}\n"
        )
        return int(unusable > 0)
    output, table, failed = predicting.model.output, config.prediction.format == "table", False
    if table:
        sys.stdout.write(f"{output}  file\n")
    for prediction in predicting.predictions():
        failed |= prediction.error is not None
        if not table:
            sys.stdout.write(json.dumps({**asdict(prediction), "label": predicting.model.label}) + "\n")
        elif prediction.probability is None:
            sys.stdout.write(f"{'-':>{len(output)}}  {prediction.path}: {prediction.error}\n")
        else:
            sys.stdout.write(f"{prediction.probability:>{len(output)}.4f}  {prediction.path}\n")
    return int(failed)


if __name__ == "__main__":
    run_command(main, ["prediction", "signal"], arguments=True)
