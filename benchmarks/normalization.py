"""One mean and deviation a recording against one a lead: which of the two an autoencoder learns more from.

    python benchmarks/normalization.py --recordings=ROOT --labels=TABLE.csv

Pretrains and fine-tunes a tiny autoencoder with `--normalization=record` and with `lead`, on a simulated cohort and on
the recordings of pipelines/physionet.flags, below runs/normalization. Steps, seeds, masks and time shifts are the same.
Run it again after an interruption: it goes on.

The loss and the scalars of a run are in its own unit, so they cannot be compared. Here every reconstruction is taken
back to millivolts, and its squared error on the hidden patches of the validation and test recordings is divided by a
variance in square millivolts that both runs share: that of the whole recording, and that of each lead.
"""

import argparse
import itertools
import json
import math
import sys
from pathlib import Path

import numpy as np
from commands import metrics, run, say, table

FOLDER = Path("runs/normalization")
MODES = ("lead", "record")
BATCH, LEARNING_RATE, WARMUP_STEPS = 8, 1e-3, 60
PLATEAU = 0.9  # of the variance: what predicting a mean reaches is about 1
HELD_OUT = ("validation", "test")


def simulated() -> Path:
    folder = FOLDER / "simulated"
    if not (folder / "dataset/manifest.json").exists():
        recordings = folder / "recordings"
        labels = f"--labels={recordings}/labels.csv"
        run("simulate", f"--recordings={recordings}", labels, "--simulate_patients=400", "--simulate_institutions=1")
        run("prepare", f"--recordings={recordings}", labels, f"--output={folder}/dataset")
    return folder


def real(recordings: str, labels: str) -> Path:
    folder = FOLDER / "real"
    if not (folder / "dataset/manifest.json").exists():
        flags = ["--flagfile=pipelines/physionet.flags", f"--output={folder}/dataset"]
        run("prepare", *flags, f"--recordings={recordings}", f"--labels={labels}")
    return folder


def train(folder: Path, mode: str, steps: int, seed: int, stages: str) -> Path:
    """Some stages of one run."""
    counts = json.loads((folder / "dataset/manifest.json").read_text())["counts"]
    records = sum(
        count["positive"] + count["negative"] + count["unlabelled"] for count in counts if count["split"] == "train"
    )
    steps_per_epoch = records // BATCH
    to = folder / f"{mode}_{seed}"
    run(
        "train",
        f"--dataset={folder}/dataset",
        f"--run={to}",
        f"--seed={seed}",
        f"--stages={stages}",
        "--size=tiny",
        f"--normalization={mode}",
        f"--pretrain_epochs={math.ceil(steps / steps_per_epoch)}",
        f"--pretrain_warmup_epochs={WARMUP_STEPS / steps_per_epoch}",
        f"--pretrain_batch_size={BATCH}",
        f"--pretrain_base_learning_rate={LEARNING_RATE * 256 / BATCH}",
        "--pretrain_time_shift",
        "--pretrain_validation_epochs=5",
        "--finetune_epochs=10",
        "--finetune_learning_rates=1e-3,3e-4",
        "--finetune_batch_size=16",
        "--finetune_time_shift",
    )
    return to


def errors(to: Path, dataset: Path) -> np.ndarray:
    """Error on hidden patches of each held-out recording, `(recordings, 3)`.

    As a share of the variance of the recording, as a share of the variance of the lead (the mean over the leads), and
    of predicting each lead's mean over its visible patches, as a share of the variance of the recording.
    """
    import keras

    from keras_ecg_mae.dataset import evaluation_batches, read_manifest
    from keras_ecg_mae.spec import LEADS, PATCHES_PER_LEAD

    model = keras.models.load_model(to / "pretrain/autoencoder.keras", compile=False)
    found = []
    batches = evaluation_batches(
        read_manifest(str(dataset)), HELD_OUT, batch_size=32, labelled=False, mask_noise_seed=0
    )
    for batch in batches:
        ecg = batch["ecg"].numpy().astype(float)
        reconstructed, mask = (np.asarray(one) for one in model.reconstruct(batch["ecg"], batch["mask_noise"]))
        hidden = mask.reshape(len(ecg), len(LEADS), PATCHES_PER_LEAD).repeat(ecg.shape[2] // PATCHES_PER_LEAD, axis=2)
        visible_mean = np.sum(ecg * (1 - hidden), 2, keepdims=True) / np.sum(1 - hidden, 2, keepdims=True).clip(1)
        count = hidden.sum(axis=2)

        def by_lead(prediction, ecg=ecg, hidden=hidden):
            return np.sum((prediction - ecg) ** 2 * hidden, axis=2)

        model_error, mean_error = by_lead(reconstructed), by_lead(visible_mean)
        recording = ecg.var(axis=(1, 2))
        of_recording = model_error.sum(axis=1) / count.sum(axis=1) / recording
        of_lead = np.mean(model_error / count.clip(1) / ecg.var(axis=2), axis=1)
        found.append(np.stack([of_recording, of_lead, mean_error.sum(1) / count.sum(1) / recording], axis=1))
    return np.concatenate(found)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recordings", required=True)
    parser.add_argument("--labels", required=True)
    parser.add_argument("--steps", type=int, default=1500, help="of each pretraining, to the next whole epoch")
    parser.add_argument("--seeds", type=int, default=1, help="how many seeds to run, 0 first")
    arguments = parser.parse_args()
    folders = (real(arguments.recordings, arguments.labels), simulated())
    seeds, steps = range(arguments.seeds), arguments.steps
    # What has to leave a plateau first: fine-tuning follows when all reconstructions are there.
    for seed, folder in itertools.product(seeds, folders):
        found = {mode: errors(train(folder, mode, steps, seed, "pretrain"), folder / "dataset") for mode in MODES}
        for mode in MODES:
            log = [row for row in metrics(folder / f"{mode}_{seed}/pretrain") if row.get("validation_error")]
            left = next((row["step"] for row in log if float(row["validation_error"]) < PLATEAU), "never")
            shares = [f"{share:.3f}" for share in found[mode].mean(axis=0)]
            say(" | ".join([folder.name, f"seed {seed}", mode, f"{log[-1]['step']} steps", left, *shares]))
        for column, unit in enumerate(("recording", "lead")):
            gap = found["record"][:, column] - found["lead"][:, column]
            half = 1.96 * gap.std(ddof=1) / len(gap) ** 0.5
            say(
                f"{folder.name}, seed {seed}, share of the {unit}'s variance, record - lead: {gap.mean():+.3f} "
                f"({gap.mean() - half:+.3f} to {gap.mean() + half:+.3f}), {len(gap)} recordings"
            )
    rows = []
    for seed, folder, mode in itertools.product(seeds, folders, MODES):
        to = train(folder, mode, steps, seed, "finetune,evaluate")
        tuned = json.loads((to / "finetune/done.json").read_text())
        groups = json.loads((to / "evaluation/results.json").read_text())["groups"]
        areas = [group["auroc"] for group in groups if group["pooled"]] or [group["auroc"] for group in groups]
        texts = [f"{area['value']:.3f} ({area['low']:.3f}-{area['high']:.3f})" for area in areas]
        rows.append([folder.name, str(seed), mode, f"{tuned['validation_loss']:.3f}", "; ".join(texts)])
    say(table(["recordings", "seed", "normalization", "validation loss", "AUROC, internal; external"], rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
