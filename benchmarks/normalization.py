"""One mean and deviation a recording against one a lead: which of the two an autoencoder learns more from.

    python -m benchmarks.normalization --recordings=ROOT --labels=TABLE.csv

Pretrains a tiny autoencoder with each, on the recordings of pipelines/physionet.flags and on a simulated cohort, below
runs/normalization, and fine-tunes it. Steps, seed, masks and time shifts are the same. Run it again after an
interruption: what is finished is not done again.

A run's own loss and scalars are in the unit that its normalisation makes, so they cannot be compared. Here every
reconstruction is taken back to millivolts, and its squared error on the hidden patches of validation and test
recordings is divided by a variance in square millivolts that both runs share: the whole recording's, and each lead's.

AdamW stays on a plateau for about a thousand steps (docs/physionet.md), which Muon leaves within half of that: both
runs are pretrained with `--pretrain_optimizer=muon`.
"""

import argparse
import json
import math
import sys
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.commands import run, say, table

FOLDER = Path("runs/normalization")
MODES = ("lead", "record")
KINDS = ("real", "simulated")
BATCH, RATE = 8, 2e-3
HELD_OUT = ("validation", "test")


def prepare(kind: str, recordings: str, labels: str) -> Path:
    folder = FOLDER / kind
    if not (folder / "dataset/manifest.json").exists():
        flags = ["--flagfile=pipelines/physionet.flags"] if kind == "real" else []
        if kind == "simulated":
            recordings, labels = str(folder / "recordings"), str(folder / "recordings/labels.csv")
            made = [f"--recordings={recordings}", f"--labels={labels}"]
            run("simulate", *made, "--simulate_patients=400", "--simulate_institutions=1")
        run("prepare", *flags, f"--recordings={recordings}", f"--labels={labels}", f"--output={folder}/dataset")
    return folder


def errors(model: Any, dataset: Path) -> np.ndarray:
    """Error on hidden patches of held-out recordings, `(recordings, 3)`.

    As a share of the variance of the recording, as a share of the variance of the lead (the mean over the leads), and
    of predicting each lead's mean over its visible patches, as a share of the variance of the recording.
    """
    from keras_ecg_mae.dataset import evaluation_batches, read_manifest
    from keras_ecg_mae.spec import LEADS, PATCHES_PER_LEAD

    found: list[np.ndarray] = []
    manifest = read_manifest(str(dataset))
    for batch in evaluation_batches(manifest, HELD_OUT, batch_size=32, labelled=False, mask_noise_seed=0):
        ecg = batch["ecg"].numpy().astype(float)
        reconstructed, mask = (np.asarray(one) for one in model.reconstruct(batch["ecg"], batch["mask_noise"]))
        hidden = mask.reshape(len(ecg), len(LEADS), PATCHES_PER_LEAD).repeat(ecg.shape[2] // PATCHES_PER_LEAD, axis=2)
        visible_mean = np.sum(ecg * (1 - hidden), 2, keepdims=True) / np.sum(1 - hidden, 2, keepdims=True).clip(1)
        count = hidden.sum(axis=2)
        model_error, mean_error = (
            np.sum((prediction - ecg) ** 2 * hidden, axis=2) for prediction in (reconstructed, visible_mean)
        )
        recording = ecg.var(axis=(1, 2))
        of_recording, trivial = (error.sum(1) / count.sum(1) / recording for error in (model_error, mean_error))
        of_lead = np.mean(model_error / count.clip(1) / ecg.var(axis=2), axis=1)
        found.append(np.stack([of_recording, of_lead, trivial], axis=1))
    return np.concatenate(found)


def train(folder: Path, mode: str, seed: int, steps: int, stages: str) -> Path:
    """Does the stages of a run, or finds them done."""
    from keras_ecg_mae.dataset import read_manifest, steps_per_epoch

    epochs = math.ceil(steps / steps_per_epoch(read_manifest(str(folder / "dataset")), BATCH, labelled=False))
    to = folder / f"{mode}_{seed}"
    run(
        "train",
        f"--dataset={folder}/dataset",
        f"--run={to}",
        f"--seed={seed}",
        f"--stages={stages}",
        "--size=tiny",
        f"--normalization={mode}",
        "--pretrain_optimizer=muon",
        f"--pretrain_epochs={epochs}",
        f"--pretrain_warmup_epochs={60 / (steps / epochs):.3f}",
        f"--pretrain_batch_size={BATCH}",
        f"--pretrain_base_learning_rate={RATE * 256 / BATCH}",
        "--pretrain_time_shift",
        "--finetune_epochs=10",
        "--finetune_learning_rates=1e-3,3e-4",
        "--finetune_batch_size=16",
        "--finetune_time_shift",
    )
    return to


def tuned(to: Path) -> list[str]:
    """Validation loss and AUROCs, with intervals."""
    loss = json.loads((to / "finetune/done.json").read_text())["validation_loss"]
    groups = json.loads((to / "evaluation/results.json").read_text())["groups"]
    areas = [group["auroc"] for group in groups if group["pooled"]] or [group["auroc"] for group in groups]
    texts = [f"{area['value']:.3f} ({area['low']:.3f}-{area['high']:.3f})" for area in areas]
    return [f"{loss:.3f}", "; ".join(texts)]


def main() -> int:
    import keras

    import keras_ecg_mae.models  # noqa: F401  (Keras knows its classes then)

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recordings", required=True)
    parser.add_argument("--labels", required=True)
    parser.add_argument("--steps", type=int, default=600, help="of each pretraining")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=KINDS)
    parser.add_argument("--modes", nargs="+", choices=MODES, default=MODES)
    parser.add_argument("--pretrain_only", action="store_true")
    arguments = parser.parse_args()
    rows, stages = [], "pretrain" if arguments.pretrain_only else "pretrain,finetune,evaluate"
    for kind in arguments.kinds:
        folder, found = prepare(kind, arguments.recordings, arguments.labels), {}
        for mode in arguments.modes:
            to = train(folder, mode, arguments.seed, arguments.steps, stages)
            found[mode] = errors(keras.models.load_model(to / "pretrain/autoencoder.keras"), folder / "dataset")
            shares = [f"{share:.3f}" for share in found[mode].mean(axis=0)]
            rows.append([kind, mode, *shares, *([] if arguments.pretrain_only else tuned(to))])
        if len(found) == len(MODES):
            gap = found["record"] - found["lead"]
            mean, half = gap.mean(axis=0), 1.96 * gap.std(axis=0, ddof=1) / len(gap) ** 0.5
            for place, unit in enumerate(("recording", "lead")):
                interval = f"{mean[place] - half[place]:+.3f} to {mean[place] + half[place]:+.3f}"
                say(f"{kind}, {unit}'s variance: record - lead {mean[place]:+.3f} ({interval}), {len(gap)} recordings")
    header = ["recordings", "normalization", "of the recording's variance", "of the lead's", "lead's visible mean"]
    header += [] if arguments.pretrain_only else ["fine-tuning's validation loss", "AUROC"]
    say(table(header, rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
