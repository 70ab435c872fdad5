"""Is a training step as fast as PyTorch's, and does it need no more memory?

    pip install 'keras-ecg-mae[benchmarks]'
    python -m benchmarks.training_step

The compiled step that `train` runs beside the same network, optimizer and batch in PyTorch, eager, on recordings of
noise. Each side is a process; they are asked in turns, and the medians of the rounds are compared. Before that, both
have the same number of weights, and the same loss from the same weights. bfloat16 is `mixed_bfloat16` here and
`torch.autocast` there. Ends with a line of JSON for each case. `cpu_ratio` compares the processors' seconds: on a
machine that others use too, it is what can be compared, with one core (`taskset -c 0` before the command), since
PyTorch's threads wait for each other by turning round.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.commands import say, table
from benchmarks.sides import SIDE, Side, answer, machine

MODES, PRECISIONS = ("pretrain", "finetune"), ("float32", "bfloat16")
BATCHES = {
    ("tiny", "pretrain"): 16,
    ("tiny", "finetune"): 16,
    ("small", "pretrain"): 16,
    ("small", "finetune"): 8,
    ("base", "pretrain"): 16,
    ("base", "finetune"): 8,
}
SECONDS_A_ROUND = 4.0
RATE, DECAY = 1e-4, 0.05


def recordings(batch: int) -> dict[str, np.ndarray]:
    generator = np.random.default_rng(0)
    return {
        "ecg": generator.normal(size=(batch, 12, 5000)).astype("float32"),
        "mask_noise": generator.random((batch, 240), "float32"),
        "label": (np.arange(batch) % 3 == 0).astype("float32"),
    }


def ours(mode: str, size: str, precision: str, batch: int, weights: str, optimizer: str = "AdamW") -> None:
    import keras
    import tensorflow as tf

    from keras_ecg_mae.models.autoencoder import reconstruction_loss
    from keras_ecg_mae.models.build import ARCHITECTURES, build_autoencoder, build_classifier, load_pretrained_encoder
    from keras_ecg_mae.models.published_weights import state_dict
    from keras_ecg_mae.training import optimizers
    from keras_ecg_mae.training.steps import compiled_steps
    from keras_ecg_mae.training.weight_rules import weight_rules

    keras.utils.set_random_seed(0)
    dtype = {"float32": "float32", "bfloat16": "mixed_bfloat16"}[precision]
    shape = ARCHITECTURES[size]
    autoencoder = build_autoencoder(shape, normalization="lead", mask_ratio=0.75, normalize_target=False, dtype=dtype)
    published = state_dict(autoencoder)
    model = autoencoder
    if mode == "finetune":
        model = build_classifier(shape.encoder, normalization="lead", pooling="mean", dtype=dtype)
        load_pretrained_encoder(model, autoencoder)
        head = {"head.weight": np.array(model.head.kernel).T, "head.bias": np.array(model.head.bias)}
        published = {name: value for name, value in published.items() if "decoder" not in name} | head
    np.savez(weights, **published)
    del autoencoder, published

    def losses(batch: dict[str, Any]) -> Any:
        if mode == "pretrain":
            return reconstruction_loss(model(batch["ecg"], batch["mask_noise"], training=True))
        logits = model(batch["ecg"], training=True)
        return tf.nn.sigmoid_cross_entropy_with_logits(labels=batch["label"], logits=logits)

    kind = getattr(optimizers, optimizer)(RATE, weight_rules(model), weight_decay=DECAY, beta_1=0.9, beta_2=0.95)
    kind.build(model.trainable_variables)
    run_steps = compiled_steps(tf.distribute.get_strategy(), model, kind, losses, batch)
    batches = iter(tf.data.Dataset.from_tensors(recordings(batch)).repeat())
    count = sum(int(np.prod(weight.shape)) for weight in model.trainable_variables)

    def steps(number: int) -> list[float]:
        return run_steps(batches, tf.constant(number))["losses"].numpy().tolist()

    answer({"weights": count}, lambda number: timed(lambda: steps(number)))


def theirs(mode: str, size: str, precision: str, batch: int, weights: str) -> None:
    import torch

    from benchmarks import pytorch
    from keras_ecg_mae.models.build import ARCHITECTURES

    shape = ARCHITECTURES[size]
    encoder = tuple(vars(shape.encoder).values())
    if mode == "pretrain":
        model: Any = pytorch.Autoencoder(encoder, tuple(vars(shape.decoder).values()))
    else:
        model = pytorch.Classifier(*encoder)
    with np.load(weights) as saved:
        pytorch.load(model, dict(saved))
    tensors = {name: torch.from_numpy(value) for name, value in recordings(batch).items()}
    matrices = [weight for weight in model.parameters() if weight.ndim > 1]
    vectors = [weight for weight in model.parameters() if weight.ndim < 2]
    groups = [{"params": matrices, "weight_decay": DECAY}, {"params": vectors, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=RATE, betas=(0.9, 0.95), fused=True)

    def steps(count: int) -> list[float]:
        losses = []
        for _ in range(count):
            optimizer.zero_grad()
            with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16"):
                if mode == "pretrain":
                    loss = model(tensors["ecg"], tensors["mask_noise"])
                else:
                    logits = model(tensors["ecg"])
                    loss = torch.nn.functional.binary_cross_entropy_with_logits(logits, tensors["label"])
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        return losses

    answer({"weights": pytorch.weight_count(model)}, lambda count: timed(lambda: steps(count)))


def timed(run: Callable[[], Any]) -> dict[str, Any]:
    began, used = time.perf_counter(), time.process_time()
    losses = [float(loss) for loss in run()]
    return {
        "seconds": time.perf_counter() - began,
        "cpu_seconds": time.process_time() - used,
        "losses": losses,
    }


def compare(size: str, mode: str, precision: str, rounds: int, batch: int, optimizer: str) -> dict[str, Any]:
    """Both sides of one case, one after the other in each round."""
    case: dict[str, Any] = {"mode": mode, "size": size, "precision": precision, "batch": batch}
    with tempfile.TemporaryDirectory() as folder:
        case["weights"] = str(Path(folder) / "weights.npz")
        sides = {
            "ours": Side(__spec__.name, {"of": "ours", "optimizer": optimizer, **case}),
            "theirs": Side(__spec__.name, {"of": "theirs", **case}),
        }
        counts = {name: side.ready["weights"] for name, side in sides.items()}
        first = {name: side.ask(1) for name, side in sides.items()}
    losses = [answer["losses"][0] for answer in first.values()]
    say(f"{size}, {mode}, {precision}: weights {counts}, first losses {losses}")
    tolerance = 1e-5 if precision == "float32" else 2e-2
    if len(set(counts.values())) > 1 or abs(losses[0] - losses[1]) > tolerance * losses[1]:
        sys.exit("Expected the same number of weights and the same first loss on both sides.")
    warm = {name: side.ask(2) for name, side in sides.items()}
    steps = max(1, round(SECONDS_A_ROUND / max(one["seconds"] / 2 for one in warm.values())))
    answers = [{name: side.ask(steps) for name, side in sides.items()} for _ in range(rounds)]
    seconds = {name: statistics.median(one[name]["seconds"] / steps for one in answers) for name in sides}
    cpu = {name: statistics.median(one[name]["cpu_seconds"] / steps for one in answers) for name in sides}
    ratio, cpu_ratio = (
        round(statistics.median(one["theirs"][unit] / one["ours"][unit] for one in answers), 3)
        for unit in ("seconds", "cpu_seconds")
    )
    peaks = {name: side.end() for name, side in sides.items()}
    return {
        "size": size,
        "mode": mode,
        "precision": precision,
        "batch": batch,
        "ours_records_per_s": round(batch / seconds["ours"], 2),
        "pytorch_records_per_s": round(batch / seconds["theirs"], 2),
        "ratio": ratio,
        "cpu_ratio": cpu_ratio,
        "ours_cpu_s": round(cpu["ours"], 3),
        "pytorch_cpu_s": round(cpu["theirs"], 3),
        "ours_peak_mb": peaks["ours"],
        "pytorch_peak_mb": peaks["theirs"],
        **machine(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="*", default=["small", "base"], choices=["tiny", "small", "base"])
    parser.add_argument("--modes", nargs="*", default=MODES, choices=MODES)
    parser.add_argument("--precisions", nargs="*", default=PRECISIONS, choices=PRECISIONS)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batch", type=int, help="recordings a step, instead of the case's own")
    parser.add_argument("--optimizer", default="AdamW", choices=["AdamW", "Muon"], help="ours; PyTorch's is AdamW")
    parser.add_argument(SIDE, type=json.loads, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.side:
        {"ours": ours, "theirs": theirs}[options.side.pop("of")](**options.side)
        return
    results = [
        compare(size, mode, precision, options.rounds, options.batch or BATCHES[size, mode], options.optimizer)
        for size in options.sizes
        for mode in options.modes
        for precision in options.precisions
    ]
    columns = [name for name in results[0] if name not in ("machine", "versions")]
    say(table(columns, [[str(result[name]) for name in columns] for result in results]))
    for result in results:
        say(json.dumps(result))


if __name__ == "__main__":
    main()
