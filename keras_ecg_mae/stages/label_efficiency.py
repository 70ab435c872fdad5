"""AUROC against the number of labels: one encoder, and what it is compared with, fine-tuned again and again."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
from absl import logging

from keras_ecg_mae.config import OWN_PRETRAINING, RANDOM, Config
from keras_ecg_mae.dataset import Manifest
from keras_ecg_mae.files import storage_path
from keras_ecg_mae.reports.finished_run import read_finished_run
from keras_ecg_mae.reports.label_efficiency import Trial, trial_of
from keras_ecg_mae.runs.fingerprint import stage_folder
from keras_ecg_mae.runs.folder import run_lock
from keras_ecg_mae.runs.training_data import AUTOENCODER
from keras_ecg_mae.stages.run import begin_run, run_stage


def study_folder(config: Config) -> Path:
    """Where the fine-tunings of a study and its report lie: within the run whose encoder it asks about."""
    return storage_path(config.training.run) / "label_efficiency"


def finished_trials(config: Config, manifest: Manifest) -> Iterator[Trial]:
    """Every seed with every share of the labels and every arm; what was done before is read.

    The encoder is pretrained first where `--finetune_encoder=pretrain` asks for the run's own.

    Raises:
        As `begin_run` and `run_stage`.
    """
    study = config.label_efficiency
    if config.finetuning.encoder == OWN_PRETRAINING and {"pretrained", "linear_probe"} & set(study.arms):
        _do(replace(config, training=replace(config.training, stages=("pretrain",))), manifest)
    for seed in study.seeds:
        for fraction in study.label_fractions:
            for arm in study.arms:
                trial = trial_config(config, arm, fraction, seed)
                _do(trial, manifest)
                yield trial_of(arm, fraction, seed, read_finished_run(storage_path(trial.training.run)))


def trial_config(config: Config, arm: str, fraction: float, seed: int) -> Config:
    """The settings of one fine-tuning. All arms have the labels of a seed, the rates and, but for one, the epochs."""
    finetuning, longer = config.finetuning, config.label_efficiency.longer
    encoder = finetuning.encoder
    if encoder == OWN_PRETRAINING:
        encoder = str(stage_folder("pretrain", config) / AUTOENCODER)
    changed: dict[str, Any] = {"encoder": encoder}
    if arm not in ("pretrained", "linear_probe"):
        changed = {"encoder": RANDOM, "transfer": "encoder"}
    if arm in ("linear_probe", "frozen_random"):
        changed["trained"] = "head"
    if arm == "random_longer":
        changed |= {"epochs": longer * finetuning.epochs, "patience": longer * finetuning.patience}
    return replace(
        config,
        model=replace(config.model, architecture="cnn" if arm == "cnn" else "vit"),
        training=replace(
            config.training,
            run=str(study_folder(config) / f"{arm}_{100 * fraction:g}_{seed}"),
            title=arm,
            paper_column="",
            stages=("finetune", "evaluate"),
            seed=seed,
        ),
        finetuning=replace(finetuning, label_fraction=fraction, **changed),
    )


def _do(config: Config, manifest: Manifest) -> None:
    with run_lock(storage_path(config.training.run)):
        begin_run(config, manifest)
        for stage in config.training.stages:
            run_stage(stage, config, manifest)
    keras.utils.clear_session()  # else each model stays in memory until the last
    logging.info("%s is done.", config.training.run)
