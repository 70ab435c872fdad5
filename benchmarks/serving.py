"""How long does an export take to answer, beside PyTorch, ONNX Runtime and OpenVINO?

    pip install 'keras-ecg-mae[benchmarks]'
    python -m benchmarks.serving

Exports a classifier of random weights below runs/serving_benchmark, in float32 and in bfloat16, and asks its signature
`serving_default` in turns with the same network in PyTorch, eager and compiled, and with what ONNX Runtime and OpenVINO
make of the same SavedModel. Each way has a process of its own; the others wait meanwhile. Before anything is timed, the
answers are compared: in float32 to 1e-4. Ends with a line of JSON for each precision and batch.
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
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.commands import say, table
from benchmarks.sides import SIDE, Side, answer, machine

FOLDER = Path("runs/serving_benchmark")
BATCHES = (1, 8, 32)
PRECISIONS = ("float32", "bfloat16")
# In float32, two implementations of 24 blocks differ by rounding alone.
TOLERANCE = 1e-4
OURS, EAGER, COMPILED, ONNX, OPENVINO = "export", "PyTorch eager", "torch.compile", "ONNX Runtime", "OpenVINO"

Answer = Callable[[np.ndarray], Any]


# What each way computes: (batch, 12, 5000) float32 mV -> (batch,) probabilities.
def export(precision: str) -> Answer:
    from keras_ecg_mae.serving.exported_model import ExportedModel

    model = ExportedModel(FOLDER / "saved_models" / precision)
    return lambda ecg_mv: model.classify(ecg_mv).probability


def pytorch(precision: str, compiled: bool) -> Answer:
    import torch

    from benchmarks import pytorch

    with np.load(FOLDER / "weights.npz") as saved:
        weights = dict(saved)
    shape = tuple(int(number) for number in weights.pop("shape"))
    # The norm and the head compute in float32 on both sides.
    model: Any = pytorch.load(pytorch.Classifier(*shape), weights).eval()
    if precision == "bfloat16":
        model.bfloat16()
        model.norm.float()
        model.head.float()
    if compiled:
        model = torch.compile(model, dynamic=False)

    def compute(ecg_mv: np.ndarray) -> Any:
        with torch.inference_mode():
            return torch.sigmoid(model(torch.from_numpy(ecg_mv))).numpy()

    return compute


def onnx_runtime(precision: str) -> Answer:
    import onnxruntime

    if precision != "float32":
        raise RuntimeError("tf2onnx makes no bfloat16 operations that ONNX Runtime has on CPU.")
    file = FOLDER / "model.onnx"
    command = ["-m", "tf2onnx.convert", "--saved-model", str(saved_model(precision)), "--output", str(file)]
    subprocess.run([sys.executable, *command, "--opset=18"], check=True, capture_output=True)
    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    return lambda ecg_mv: session.run(["lvsd_probability"], {"ecg": ecg_mv})[0]


def openvino(precision: str) -> Answer:
    import openvino

    # It rounds to bfloat16 itself, where the processor has instructions for it.
    core = openvino.Core()
    model = core.compile_model(
        str(saved_model("float32")),
        "CPU",
        {"INFERENCE_PRECISION_HINT": {"float32": "f32", "bfloat16": "bf16"}[precision]},
    )
    name = next(port for port in model.outputs if "lvsd_probability" in port.get_names())
    return lambda ecg_mv: model({"ecg": ecg_mv})[name]


MAKE: dict[str, Callable[[str], Answer]] = {
    OURS: export,
    EAGER: lambda precision: pytorch(precision, compiled=False),
    COMPILED: lambda precision: pytorch(precision, compiled=True),
    ONNX: onnx_runtime,
    OPENVINO: openvino,
}


def saved_model(precision: str) -> Path:
    return FOLDER / "saved_models" / precision / "1"


def answer_requests(way: str, precision: str) -> None:
    """The process of one way: a batch size in, its seconds and its probabilities out."""
    try:
        compute = MAKE[way](precision)
    except (ImportError, RuntimeError, subprocess.CalledProcessError) as error:
        say(json.dumps({"absent": f"{type(error).__name__}: {error}"}))
        return
    ecg_mv = np.load(FOLDER / "ecg.npy")

    def timed(batch: int) -> dict[str, Any]:
        began, used = time.perf_counter(), time.process_time()
        probability = compute(ecg_mv[:batch])
        taken = {"seconds": time.perf_counter() - began, "cpu_seconds": time.process_time() - used}
        return {**taken, "probability": [float(one) for one in np.ravel(probability)]}

    answer({"absent": ""}, timed)


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
    shape = ARCHITECTURES[size]
    autoencoder = build_autoencoder(shape, normalization="lead", mask_ratio=0.75, normalize_target=True)
    classifier = build_classifier(shape.encoder, normalization="lead", pooling="mean")
    load_pretrained_encoder(classifier, autoencoder)
    classifier.head.kernel.assign(keras.random.normal(classifier.head.kernel.shape, stddev=0.1))
    np.savez(
        FOLDER / "weights.npz",
        **{name: value for name, value in state_dict(autoencoder).items() if "decoder" not in name},
        **{"head.weight": np.array(classifier.head.kernel).T, "head.bias": np.array(classifier.head.bias)},
        shape=list(vars(shape.encoder).values()),
    )
    many = BATCHES[-1]
    patients = draw_patients(np.linspace(30, 80, many), np.linspace(20, 70, many), np.random.default_rng(0))
    ecg_mv = simulate(patients, Device(), seed=0)
    np.save(FOLDER / "ecg.npy", (np.rint(1000 * ecg_mv) / 1000).astype(np.float32))  # microvolts, as in a dataset
    decision = Decision("lvsd", 0.5, "none: the weights are random", 0.95, ())
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


def start(way: str, precision: str) -> Side | None:
    side = Side(__spec__.name, {"way": way, "precision": precision})
    if side.ready["absent"]:
        say(f"{way}, {precision}: {side.ready['absent'].splitlines()[0]}")
        return None
    return side


def check_answers(sides: dict[tuple[str, str], Side]) -> None:
    """Ends the benchmark where a way computes another network."""
    answers = {key: np.array(side.ask(BATCHES[1])["probability"]) for key, side in sides.items()}
    expected = answers[PRECISIONS[0], OURS]
    for (precision, way), probability in answers.items():
        apart = float(np.abs(probability - expected).max())
        say(f"{way}, {precision}: at most {apart:.1e} from the float32 export, which spans {np.ptp(expected):.2f}")
        if precision == "float32" and not apart <= TOLERANCE:
            sys.exit(f"Expected the same answers to {TOLERANCE}. Received {apart:g} between {OURS} and {way}.")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", default="base", help="of the classifier")
    parser.add_argument("--rounds", type=int, default=3, help="each with every way and batch size once")
    parser.add_argument(SIDE, type=json.loads, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.side:
        if "make" in options.side:
            make_models(options.side["make"])
        else:
            answer_requests(**options.side)
        return
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir(parents=True)
    make = [sys.executable, "-m", __spec__.name, SIDE, json.dumps({"make": options.size})]
    subprocess.run(make, check=True, env={"TF_CPP_MIN_LOG_LEVEL": "2", **os.environ})
    started = {(precision, way): start(way, precision) for precision in PRECISIONS for way in MAKE}
    sides = {key: side for key, side in started.items() if side is not None}
    check_answers(sides)
    taken: dict[Any, list[dict[str, float]]] = {}
    for number in range(options.rounds + 1):  # the first warms every shape up
        for batch in BATCHES:
            for key, side in sides.items():
                one = side.ask(batch)
                if number:
                    taken.setdefault((*key, batch), []).append(one)
    for side in sides.values():
        side.end()
    rows, lines = [], []
    for precision in PRECISIONS:
        for batch in BATCHES:
            ours = taken[precision, OURS, batch]
            for way in MAKE:
                one = taken.get((precision, way, batch))
                if one is None:
                    continue
                seconds = statistics.median(each["seconds"] for each in one)
                case = {"size": options.size, "precision": precision, "batch": batch, "way": way}
                case |= {"seconds": round(seconds, 4), "records_per_s": round(batch / seconds, 2)}
                for name, unit in (("ratio", "seconds"), ("cpu_ratio", "cpu_seconds")):
                    pairs = zip(one, ours, strict=True)
                    case[name] = round(statistics.median(theirs[unit] / own[unit] for theirs, own in pairs), 3)
                rows.append([str(value) for value in case.values()])
                lines.append(json.dumps({**case, **machine()}))
    say("`ratio`: the export's speed over this way's; `cpu_ratio`: the same of the processors' seconds.\n")
    say(table(["size", "precision", "batch", "way", "seconds", "records/s", "ratio", "cpu_ratio"], rows))
    for line in lines:
        say(line)
    shutil.rmtree(FOLDER)


if __name__ == "__main__":
    main()
