"""TFX's Trainer calls `run_fn`: a run of this package on what ExampleGen has read, its export where TFX looks for it.

It stands beside the commands, since like `train` it goes through the stages. TFX itself is not imported.
"""

import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

from keras_ecg_mae.dataset.tfx_examples import collect_examples
from keras_ecg_mae.errors import ConfigError
from keras_ecg_mae.flags import config_from_arguments
from keras_ecg_mae.runs.training_data import AUTOENCODER
from keras_ecg_mae.stages import begin_run, run_stage

_SPLIT = re.compile(r"/Split-(\w+)/")


def run_fn(fn_args: Any) -> None:
    """Fine-tunes, evaluates and exports.

    Args:
        fn_args: TFX's `FnArgs`. `train_files` and `eval_files` are read; `base_model`, where it is given, is the folder
            of a pretraining (or `Format-Serving` in it), whose encoder is fine-tuned; the run goes to `model_run_dir`,
            the SavedModel to `serving_model_dir`. `custom_config` holds `flags`, every setting as `flags.txt` has them,
            `label_name`, `external_institutions` and, as `prepared`, the settings, all as the dataset's manifest has
            them.

    Raises:
        EcgMaeError: as the stages do.
    """
    given = fn_args.custom_config
    config = config_from_arguments(given["flags"])
    folder = Path(fn_args.model_run_dir)
    manifest = collect_examples(
        str(folder / "dataset"),
        _by_split([*fn_args.train_files, *fn_args.eval_files]),
        label_name=given["label_name"],
        external_institutions=given["external_institutions"],
        settings=given["prepared"],
    )
    encoder = _encoder(fn_args.base_model) if fn_args.base_model else config.finetuning.encoder
    config = replace(
        config,
        training=replace(
            config.training,
            dataset=manifest.folder,
            run=str(folder / "run"),
            stages=("finetune", "evaluate", "export"),
        ),
        finetuning=replace(config.finetuning, encoder=encoder),
        # Evaluator decides what is served, and the gate nothing: the folder holds no other version.
        export=replace(
            config.export,
            saved_models=str(folder / "saved_models"),
            export_minimum_auroc=0.0,
            export_minimum_institution_auroc=0.0,
        ),
    )
    begin_run(config, manifest)
    for stage in config.training.stages:
        done = run_stage(stage, config, manifest)
    shutil.copytree(done["saved_model"], fn_args.serving_model_dir)
    shutil.rmtree(manifest.folder)  # the pipeline keeps the examples themselves


def _by_split(patterns: list[str]) -> dict[str, list[str]]:
    """Patterns of files by the split that TFX's folder names say."""
    by_split: dict[str, list[str]] = {}
    for pattern in patterns:
        found = _SPLIT.search(pattern)
        if found is None:
            raise ConfigError(f"Expected files in a folder Split-NAME. Received {pattern}.")
        by_split.setdefault(found[1], []).append(pattern)
    return by_split


def _encoder(base_model: str) -> str:
    """The autoencoder that a base model holds."""
    for folder in (Path(base_model), Path(base_model).parent):
        if (folder / AUTOENCODER).is_file():
            return str(folder / AUTOENCODER)
    raise ConfigError(
        f"Expected a base model with {AUTOENCODER}, as the stage pretrain leaves it. Received {base_model}."
    )
