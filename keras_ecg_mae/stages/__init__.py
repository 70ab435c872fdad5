"""The stages of a run: each takes what the one before left in the run folder, and leaves its own."""

from keras_ecg_mae.stages.run import begin_run, evaluate_dataset, own_dataset, run_stage
from keras_ecg_mae.stages.summary import summary

__all__ = ["begin_run", "evaluate_dataset", "own_dataset", "run_stage", "summary"]
