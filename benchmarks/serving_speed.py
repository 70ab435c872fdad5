"""Latency and throughput of an export beside PyTorch, eager and TorchScript, of the same network.

    pip install torch
    python benchmarks/serving_speed.py

Exports a ViT-Large classifier of random weights below runs/serving_speed, in float32 and in bfloat16, and asks its
signature `serving_default` in turns with the same network of PyTorch's own layers (`torch.nn.TransformerEncoder`, with
the same weights), which gets the same millivolts. Each way has a process of its own, so that their threads do not meet;
the others wait meanwhile. Before anything is timed, the answers are compared: in float32 to 1e-4. On a GPU, where
TensorFlow and PyTorch see one, that is what is timed.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.commands import say, table

FOLDER = Path("runs/serving_speed")
BATCHES = (1, 8, 32)
PRECISIONS = ("float32", "mixed_bfloat16")
# In float32, two implementations of 24 blocks differ by rounding alone.
TOLERANCE = 1e-4
OURS, EAGER, SCRIPT = "export", "PyTorch eager", "TorchScript"

Answer = Callable[[np.ndarray], np.ndarray]


# What each way computes: (batch, 12, 5000) float32 mV -> (batch,) probabilities.
def make_export(precision: str) -> Answer:
    import tensorflow as tf

    from keras_ecg_mae.serving.exported_model import ExportedModel

    model = ExportedModel(FOLDER / "saved_models" / precision)
    say_ready(str([device.name for device in tf.config.list_physical_devices()]))
    return model.probability


def make_torch(precision: str, *, script: bool) -> Answer:
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = torch_classifier(torch, dict(np.load(FOLDER / "weights.npz")), precision).to(device).eval()
    with torch.inference_mode():
        if script:
            example = torch.zeros((2, 12, 5000), device=device)
            model = torch.jit.freeze(torch.jit.trace(model, example))
        say_ready(f"PyTorch {torch.__version__}, {device}, {torch.get_num_threads()} threads")

    def answer(ecg_mv: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            return np.asarray(model(torch.from_numpy(ecg_mv).to(device)).cpu())

    return answer


def torch_classifier(torch: Any, weights: dict[str, np.ndarray], precision: str) -> Any:
    """The classifier of `keras_ecg_mae.models` (per record normalisation, mean pooling) of PyTorch's own layers."""
    nn = torch.nn
    width = weights["norm.weight"].shape[0]
    depth = 1 + max(int(name.split(".")[1]) for name in weights if name.startswith("blocks."))
    names = {
        "norm1": "norm1",
        "attn.qkv": "self_attn.in_proj_",
        "attn.proj": "self_attn.out_proj",
        "norm2": "norm2",
        "mlp.fc1": "linear1",
        "mlp.fc2": "linear2",
    }
    compute = torch.float32 if precision == "float32" else torch.bfloat16

    class TorchClassifier(nn.Module):  # type: ignore[name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.embedding = nn.Linear(250, width)
            layer = nn.TransformerEncoderLayer(
                width, int(weights["heads"]), 4 * width, 0.0, "gelu", 1e-6, batch_first=True, norm_first=True
            )
            self.blocks = nn.TransformerEncoder(layer, depth, enable_nested_tensor=False)
            self.norm, self.head = nn.LayerNorm(width, 1e-6), nn.Linear(width, 1)
            self.register_buffer("positions", torch.from_numpy(weights["pos_embed"][0]))
            self.register_buffer("class_token", torch.from_numpy(weights["cls_token"][0]))

        def forward(self, ecg: Any) -> Any:
            mean = ecg.mean((1, 2), keepdim=True)
            scale = ((ecg - mean) ** 2).mean((1, 2), keepdim=True).sqrt()
            patches = ((ecg - mean) / torch.clamp(scale, min=1e-3)).reshape(-1, 240, 250)
            tokens = self.embedding(patches.to(compute)) + self.positions[1:]
            first = (self.class_token + self.positions[:1]).expand(ecg.shape[0], -1, -1)
            tokens = self.blocks(torch.cat([first, tokens], 1))
            return torch.sigmoid(self.head(self.norm(tokens[:, 1:].float().mean(1))))[:, 0]

    state = {}
    for name, value in weights.items():
        for theirs, ours in names.items():
            start, _, end = name.partition(f".{theirs}.")
            if end and start.startswith("blocks."):
                joint = "" if ours.endswith("_") else "."
                state[f"blocks.layers.{start.split('.')[1]}.{ours}{joint}{end}"] = value
    state |= {f"norm.{end}": weights[f"norm.{end}"] for end in ("weight", "bias")}
    state |= {f"head.{end}": weights[f"head.{end}"] for end in ("weight", "bias")}
    state["embedding.weight"] = weights["patch_embed.proj.weight"].reshape(width, 250)
    state["embedding.bias"] = weights["patch_embed.proj.bias"]
    state["positions"], state["class_token"] = weights["pos_embed"][0], weights["cls_token"][0]
    model = TorchClassifier()
    model.load_state_dict({name: torch.from_numpy(np.ascontiguousarray(value)) for name, value in state.items()})
    for part in (model.embedding, model.blocks):
        part.to(compute)
    model.positions, model.class_token = model.positions.to(compute), model.class_token.to(compute)
    return model


MAKE: dict[str, Callable[[str], Answer]] = {
    OURS: make_export,
    EAGER: lambda precision: make_torch(precision, script=False),
    SCRIPT: lambda precision: make_torch(precision, script=True),
}


def say_ready(device: str) -> None:
    sys.stdout.write(json.dumps({"device": device}) + "\n")
    sys.stdout.flush()


def answer_requests(way: str, precision: str) -> None:
    """The process of one way: a batch size a line in, its seconds and its probabilities out."""
    compute = MAKE[way](precision)
    ecg_mv = np.load(FOLDER / "ecg.npy")
    for line in sys.stdin:
        batch = ecg_mv[: int(line)]
        began = time.perf_counter()
        probability = compute(batch)
        seconds = time.perf_counter() - began
        sys.stdout.write(json.dumps({"seconds": seconds, "probability": [float(one) for one in probability]}) + "\n")
        sys.stdout.flush()


@dataclass
class Way:
    """One of the ways in one precision, in its process."""

    name: str
    precision: str
    process: "subprocess.Popen[str]"

    @classmethod
    def start(cls, name: str, precision: str) -> "Way":
        process = subprocess.Popen(
            [sys.executable, __file__, f"--answer={name}", f"--precision={precision}"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "2"},
        )
        way = cls(name, precision, process)
        say(f"{name}, {precision}: {way._read()['device']}")
        return way

    def ask(self, batch: int) -> dict[str, Any]:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{batch}\n")
        self.process.stdin.flush()
        return self._read()

    def _read(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            sys.exit(f"{self.name}, {self.precision}: the process ended with status {self.process.wait()}.")
        answer: dict[str, Any] = json.loads(line)
        return answer


def make_models(size: str) -> None:
    """The exports, the weights for PyTorch, and recordings to ask with: in a process of its own, which frees memory."""
    import keras

    from keras_ecg_mae.cohort.description import CohortDescription
    from keras_ecg_mae.models.build import (
        ARCHITECTURES,
        build_autoencoder,
        build_classifier,
        in_precision,
        load_pretrained_encoder,
    )
    from keras_ecg_mae.models.published_weights import state_dict
    from keras_ecg_mae.runs.record import Dataset
    from keras_ecg_mae.runs.training_data import TrainingData
    from keras_ecg_mae.serving.model_json import Decision, Provenance
    from keras_ecg_mae.serving.saved_model import export_classifier
    from keras_ecg_mae.simulation.device import Device
    from keras_ecg_mae.simulation.ecg import simulate
    from keras_ecg_mae.simulation.patients import draw_patients

    keras.utils.set_random_seed(0)
    architecture = ARCHITECTURES[size]
    autoencoder = build_autoencoder(architecture, normalization="record", mask_ratio=0.75, normalize_target=True)
    classifier = build_classifier(architecture.encoder, normalization="record", pooling="mean")
    load_pretrained_encoder(classifier, autoencoder)
    classifier.head.kernel.assign(keras.random.normal(classifier.head.kernel.shape, stddev=0.1))
    np.savez(
        FOLDER / "weights.npz",
        **{name: value for name, value in state_dict(autoencoder).items() if "decoder" not in name},
        **{"head.weight": np.array(classifier.head.kernel).T, "head.bias": np.array(classifier.head.bias)},
        heads=architecture.encoder.heads,
    )
    many = BATCHES[-1]
    patients = draw_patients(np.linspace(30, 80, many), np.linspace(20, 70, many), np.random.default_rng(0))
    ecg_mv = simulate(patients, Device(), seed=0)
    np.save(FOLDER / "ecg.npy", (np.rint(1000 * ecg_mv) / 1000).astype(np.float32))  # microvolts, as in a dataset
    decision = Decision("random", 0.5, "none: the weights are random", 0.95, ())
    trained = TrainingData("none", Dataset("none", "none", 0), "random", None, "", {})
    provenance = Provenance(trained, CohortDescription("random", (), (), ()))
    for precision in PRECISIONS:
        export_classifier(
            in_precision(classifier, precision),
            FOLDER / "saved_models" / precision,
            decision=decision,
            provenance=provenance,
            batch_sizes=(1,),
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", default="large", help="of the classifier")
    parser.add_argument("--rounds", type=int, default=3, help="each with every way and batch size once")
    parser.add_argument("--answer", choices=[*MAKE, "make"], help=argparse.SUPPRESS)
    parser.add_argument("--precision", choices=PRECISIONS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.answer == "make":
        make_models(options.size)
        return
    if options.answer:
        answer_requests(options.answer, options.precision)
        return
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir(parents=True)
    subprocess.run([sys.executable, __file__, "--answer=make", f"--size={options.size}"], check=True)
    ways = [Way.start(name, precision) for precision in PRECISIONS for name in MAKE]
    check_answers(ways)
    seconds: dict[tuple[str, str, int], list[float]] = {}
    for number in range(options.rounds + 1):  # the first warms every shape up
        for batch in BATCHES:
            for way in ways:
                taken = way.ask(batch)["seconds"]
                if number:
                    seconds.setdefault((way.precision, way.name, batch), []).append(taken)
        say(f"round {number} of {options.rounds}" + ("" if number else " (not counted)"))
    for way in ways:
        way.process.kill()
    median = {key: statistics.median(times) for key, times in seconds.items()}
    rows = [
        [
            precision,
            str(batch),
            *(f"{median[precision, name, batch]:.3f} ({batch / median[precision, name, batch]:.2f})" for name in MAKE),
            *(f"{median[precision, name, batch] / median[precision, OURS, batch]:.2f}" for name in (EAGER, SCRIPT)),
        ]
        for precision in PRECISIONS
        for batch in BATCHES
    ]
    header = ["computes in", "batch", *(f"{name}: s (recordings a second)" for name in MAKE)]
    header += [f"the export's speed over {name}" for name in (EAGER, SCRIPT)]
    say(f"\n--size={options.size}, {len(os.sched_getaffinity(0))} cores, medians of {options.rounds} rounds:\n")
    say(table(header, rows))
    shutil.rmtree(FOLDER)


def check_answers(ways: list[Way]) -> None:
    """Ends the benchmark where PyTorch's network is another one."""
    answers = {(way.precision, way.name): np.array(way.ask(BATCHES[1])["probability"]) for way in ways}
    expected = answers["float32", OURS]
    for (precision, name), probability in answers.items():
        apart = float(np.abs(probability - expected).max())
        say(f"{name}, {precision}: at most {apart:.1e} from the float32 export, which spans {np.ptp(expected):.2f}")
        if precision == "float32" and not apart <= TOLERANCE:
            sys.exit(f"Expected the same answers to {TOLERANCE}. Received {apart:g} between {OURS} and {name}.")


if __name__ == "__main__":
    main()
