"""One mean and deviation a recording against one a lead: which of the two an autoencoder learns more from.

    python benchmarks/normalization.py --recordings=ROOT --labels=TABLE.csv

Pretrains a tiny autoencoder with each, on the recordings of pipelines/physionet.flags and on a simulated cohort, below
runs/normalization, and fine-tunes it. Steps, seed, masks and time shifts are the same. Run it again after an
interruption: what is finished is not done again.

A run's own loss and scalars are in the unit that its normalisation makes, so they cannot be compared. Here every
reconstruction is taken back to millivolts, and its squared error on the hidden patches of validation and test
recordings is divided by a variance in square millivolts that both runs share: the whole recording's, and each lead's.

AdamW stays on a plateau for about a thousand steps (docs/physionet.md). The matrices inside the blocks are therefore
trained by Muon (Jordan et al. 2024, with the scale of Liu et al. 2025), which leaves it within half of that.
"""

import argparse
import json
import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from commands import run, say, table

FOLDER = Path("runs/normalization")
MODES = ("lead", "record")
KINDS = ("real", "simulated")
BATCH, RATE, WARMUP_STEPS, DECAY = 8, 2e-3, 60, 0.05
HELD_OUT = ("validation", "test")
SHOWN_EVERY, SHOWN_RECORDINGS = 100, 64


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


def orthogonal(matrix: Any) -> Any:
    """Five Newton-Schulz steps towards the nearest matrix whose rows, or columns, are orthonormal."""
    import tensorflow as tf

    wide = matrix.shape[0] > matrix.shape[1]
    x = tf.transpose(matrix) if wide else matrix
    x /= tf.norm(x) + 1e-7
    for _ in range(5):
        square = x @ tf.transpose(x)
        x = 3.4445 * x + (-4.7750 * square + 2.0315 * square @ square) @ x
    return tf.transpose(x) if wide else x


def make_step(model: Any, steps: int) -> Callable[[Any, Any, Any], Any]:
    """A compiled optimizer step: recordings, mask noise, number of the step -> loss."""
    import tensorflow as tf

    from keras_ecg_mae.models.autoencoder import reconstruction_loss

    weights = [variable.value for variable in model.trainable_variables]
    inside = ["/block_" in variable.path and len(variable.shape) == 2 for variable in model.trainable_variables]
    first, second = ([tf.Variable(tf.zeros_like(weight)) for weight in weights] for _ in range(2))

    @tf.function
    def step(ecg: Any, noise: Any, number: Any) -> Any:
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(reconstruction_loss(model(ecg, noise, training=True)))
        done = tf.cast(number, tf.float32)
        falling = 0.5 * (1 + tf.cos(math.pi * (done - WARMUP_STEPS) / (steps - WARMUP_STEPS)))
        rate = RATE * tf.where(done < WARMUP_STEPS, done / WARMUP_STEPS, falling)
        gradients = tape.gradient(loss, weights)
        for gradient, weight, one, two, by_muon in zip(gradients, weights, first, second, inside, strict=True):
            if by_muon:
                one.assign(0.95 * one + gradient)
                change = 0.2 * max(weight.shape) ** 0.5 * orthogonal(gradient + 0.95 * one)
            else:
                one.assign(0.9 * one + 0.1 * gradient)
                two.assign(0.95 * two + 0.05 * tf.square(gradient))
                root = tf.sqrt(two / (1 - 0.95 ** (done + 1))) + 1e-8
                change = one / (1 - 0.9 ** (done + 1)) / root
            weight.assign_sub(rate * (change + DECAY * weight * float(len(weight.shape) > 1)))
        return loss

    return step


def pretrain(folder: Path, mode: str, steps: int, seed: int) -> Path:
    """Leaves an autoencoder, and its errors on the way."""
    import keras

    from keras_ecg_mae.dataset import Draws, read_manifest, steps_per_epoch, training_batches
    from keras_ecg_mae.models.build import ARCHITECTURES, build_autoencoder

    to = folder / f"{mode}_{seed}"
    path = to / "autoencoder.keras"
    if path.exists():
        return path
    to.mkdir(exist_ok=True)
    manifest = read_manifest(str(folder / "dataset"))
    keras.utils.set_random_seed(seed)
    model = build_autoencoder(ARCHITECTURES["tiny"], normalization=mode, mask_ratio=0.75, normalize_target=False)
    epochs = math.ceil(steps / steps_per_epoch(manifest, BATCH, labelled=False))
    draws = Draws(time_shift=True, mask_noise=True)
    batches = training_batches(manifest, batch_size=BATCH, epochs=epochs, seed=seed, labelled=False, draws=draws)
    step, curve = make_step(model, steps), []
    for number, batch in enumerate(batches.take(steps), start=1):
        import tensorflow as tf

        step(batch["ecg"], batch["mask_noise"], tf.constant(number))
        if number % SHOWN_EVERY == 0:
            of_recording, of_lead, _ = errors(model, folder / "dataset", SHOWN_RECORDINGS).mean(axis=0)
            curve.append({"step": number, "of_recording": of_recording, "of_lead": of_lead})
            (to / "curve.json").write_text(json.dumps(curve))
    model.save(path)
    return path


def errors(model: Any, dataset: Path, most: int = sys.maxsize) -> np.ndarray:
    """Error on hidden patches of held-out recordings, `(recordings, 3)`.

    As a share of the variance of the recording, as a share of the variance of the lead (the mean over the leads), and
    of predicting each lead's mean over its visible patches, as a share of the variance of the recording.
    """
    from keras_ecg_mae.dataset import evaluation_batches, read_manifest
    from keras_ecg_mae.spec import LEADS, PATCHES_PER_LEAD

    found: list[np.ndarray] = []
    manifest = read_manifest(str(dataset))
    for batch in evaluation_batches(manifest, HELD_OUT, batch_size=32, labelled=False, mask_noise_seed=0):
        if sum(map(len, found)) >= most:
            break
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


def finetune(folder: Path, mode: str, seed: int) -> list[str]:
    """Validation loss and AUROCs, with intervals."""
    to = folder / f"{mode}_{seed}"
    run(
        "train",
        f"--dataset={folder}/dataset",
        f"--run={to}",
        f"--seed={seed}",
        "--stages=finetune,evaluate",
        f"--finetune_encoder={to}/autoencoder.keras",
        "--size=tiny",
        f"--normalization={mode}",
        "--finetune_epochs=10",
        "--finetune_learning_rates=1e-3,3e-4",
        "--finetune_batch_size=16",
        "--finetune_time_shift",
    )
    tuned = json.loads((to / "finetune/done.json").read_text())
    groups = json.loads((to / "evaluation/results.json").read_text())["groups"]
    areas = [group["auroc"] for group in groups if group["pooled"]] or [group["auroc"] for group in groups]
    texts = [f"{area['value']:.3f} ({area['low']:.3f}-{area['high']:.3f})" for area in areas]
    return [f"{tuned['validation_loss']:.3f}", "; ".join(texts)]


def main() -> int:
    import keras

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recordings", required=True)
    parser.add_argument("--labels", required=True)
    parser.add_argument("--steps", type=int, default=600, help="of each pretraining")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=KINDS)
    parser.add_argument("--modes", nargs="+", choices=MODES, default=MODES)
    parser.add_argument("--pretrain_only", action="store_true")
    arguments = parser.parse_args()
    rows = []
    for kind in arguments.kinds:
        folder, found = prepare(kind, arguments.recordings, arguments.labels), {}
        for mode in arguments.modes:
            path = pretrain(folder, mode, arguments.steps, arguments.seed)
            found[mode] = errors(keras.models.load_model(path), folder / "dataset")
            shares = [f"{share:.3f}" for share in found[mode].mean(axis=0)]
            rows.append(
                [kind, mode, *shares, *([] if arguments.pretrain_only else finetune(folder, mode, arguments.seed))]
            )
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
