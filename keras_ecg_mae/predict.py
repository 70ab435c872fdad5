"""Prints a probability for each recording, with an export.

    python -m keras_ecg_mae.predict --model=saved_models/NAME FILE...

Exits with 1 where a file could not be used; the others are predicted all the same.
"""

import json
import sys
from dataclasses import asdict

from keras_ecg_mae.command import run_command
from keras_ecg_mae.config import Config
from keras_ecg_mae.errors import ConfigError
from keras_ecg_mae.storage import storage_path


def main(config: Config, files: list[str]) -> int:
    """Predicts every file, one line each."""
    from keras_ecg_mae.serving.prediction import ExportedModel

    config.prediction.require("model")
    if not files:
        raise ConfigError("Expected at least one file to predict. Received none.")
    model = ExportedModel(storage_path(config.prediction.model))
    table = config.prediction.format == "table"
    if table:
        sys.stdout.write(f"{model.output:>{len(model.output)}}  file\n")
    failed = False
    for prediction in model.predict_files(files):
        failed |= prediction.probability is None
        if not table:
            sys.stdout.write(json.dumps({**asdict(prediction), "label": model.label}) + "\n")
        elif prediction.probability is None:
            sys.stdout.write(f"{'-':>{len(model.output)}}  {prediction.path}: {prediction.error}\n")
        else:
            sys.stdout.write(f"{prediction.probability:>{len(model.output)}.4f}  {prediction.path}\n")
    return int(failed)


if __name__ == "__main__":
    run_command(main, ["prediction"], arguments=True)
