"""How many recordings a second does one GPU pretrain on, and what share of its matrix peak is that?

    pip install 'keras-ecg-mae[benchmarks]' 'jax[cuda12]'
    python -m benchmarks.gpu

ViT-Large in bfloat16 at growing batch, until the memory is full: this package's model with Keras on JAX and on PyTorch,
beside the same network in PyTorch, eager and compiled. A way whose library is not installed is left out. Each way is a
process, one after the other, since each takes the GPU's memory. The peak is that of a product of two matrices, measured
by the same library. The hours for the paper's pretraining on four such chips are a projection: four times the speed of
one. Ends with a line of JSON. Without a GPU it runs on the processor, where `--size=tiny` is enough.
"""

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable
from typing import Any

from benchmarks.commands import say, table
from benchmarks.sides import SIDE, Side, answer, machine
from benchmarks.training_step import DECAY, RATE, recordings

JAX, TORCH, EAGER, COMPILED = "Keras on JAX", "Keras on PyTorch", "PyTorch eager", "torch.compile"
BACKENDS = {JAX: "jax", TORCH: "torch", EAGER: "torch", COMPILED: "torch"}
# Sawano et al.: dataset 2, 1600 epochs; pipelines/ds2.flags.
PAPER_RECORDS, CHIPS = 126_203 * 1600, 4
# Recordings, or samples of the same work, a second and A100, as published.
REFERENCES = {"NVIDIA's BERT-Large, TensorFlow": 770, "the best published ViT": 920}
Step = Callable[[], float]


def flop(size: str) -> float:
    """Of a pretraining step and recording: three times the products with weights of the forward pass."""
    from keras_ecg_mae.models.build import ARCHITECTURES

    encoder, decoder = ARCHITECTURES[size].encoder, ARCHITECTURES[size].decoder
    products = 61 * 12 * encoder.depth * encoder.width**2 + 241 * 12 * decoder.depth * decoder.width**2
    products += 60 * 250 * encoder.width + 61 * encoder.width * decoder.width + 240 * 250 * decoder.width
    return 3 * 2 * products


def keras_model(size: str) -> Any:
    from keras_ecg_mae.models.build import ARCHITECTURES, build_autoencoder

    settings: dict[str, Any] = {"normalization": "lead", "mask_ratio": 0.75, "normalize_target": False}
    return build_autoencoder(ARCHITECTURES[size], **settings, dtype="mixed_bfloat16")


def jax_step(size: str) -> tuple[Callable[[int], Step], float]:
    import jax
    import keras

    from keras_ecg_mae.models.autoencoder import reconstruction_loss

    model = keras_model(size)
    optimizer = keras.optimizers.AdamW(RATE, weight_decay=DECAY, beta_1=0.9, beta_2=0.95)
    optimizer.build(model.trainable_variables)
    # Copies, since the step takes its arguments' memory for its results.
    others = [variable.value for variable in model.non_trainable_variables]
    state = jax.tree.map(jax.numpy.copy, [[one.value for one in optimizer.variables], _values(model)])

    def loss(weights: Any, ecg: Any, noise: Any) -> Any:
        output, _ = model.stateless_call(weights, others, ecg, noise, training=True)
        return reconstruction_loss(output).mean()

    def update(state: Any, ecg: Any, noise: Any) -> tuple[Any, Any]:
        moments, weights = state
        value, gradients = jax.value_and_grad(loss)(weights, ecg, noise)
        weights, moments = optimizer.stateless_apply(moments, gradients, weights)
        return [moments, weights], value

    compiled = jax.jit(update, donate_argnums=0)

    def of_batch(batch: int) -> Step:
        data = recordings(batch)
        ecg, noise = jax.device_put(data["ecg"]), jax.device_put(data["mask_noise"])

        def step() -> float:
            nonlocal state
            state, value = compiled(state, ecg, noise)
            return float(value)

        return step

    edge = 8192 if jax.default_backend() == "gpu" else 512
    matrix = jax.numpy.ones((edge, edge), "bfloat16")
    product = jax.jit(lambda x: x @ x)
    return of_batch, peak(lambda: product(matrix).block_until_ready(), edge)


def _values(model: Any) -> list[Any]:
    return [variable.value for variable in model.trainable_variables]


def torch_step(size: str, way: str) -> tuple[Callable[[int], Step], float]:
    import torch

    from benchmarks import pytorch
    from keras_ecg_mae.models.autoencoder import reconstruction_loss
    from keras_ecg_mae.models.build import ARCHITECTURES

    device = "cuda" if torch.cuda.is_available() else "cpu"
    if way == TORCH:
        model = keras_model(size)
        weights = _values(model)
    else:
        shapes = (tuple(vars(part).values()) for part in vars(ARCHITECTURES[size]).values())
        network = pytorch.Autoencoder(*shapes).to(device)
        weights = list(network.parameters())
        model = torch.compile(network) if way == COMPILED else network
    optimizer = torch.optim.AdamW(weights, lr=RATE, weight_decay=DECAY, betas=(0.9, 0.95), fused=True)

    def of_batch(batch: int) -> Step:
        data = recordings(batch)
        ecg, noise = (torch.from_numpy(data[name]).to(device) for name in ("ecg", "mask_noise"))

        def step() -> float:
            optimizer.zero_grad()
            if way == TORCH:
                loss = reconstruction_loss(model(ecg, noise, training=True)).mean()
            else:
                with torch.autocast(device, torch.bfloat16):
                    loss = model(ecg, noise)
            loss.backward()
            optimizer.step()
            return float(loss.item())

        return step

    edge = 8192 if device == "cuda" else 512
    matrix = torch.ones((edge, edge), dtype=torch.bfloat16, device=device)

    def multiply() -> None:
        torch.mm(matrix, matrix)[0, 0].item()

    return of_batch, peak(multiply, edge)


def peak(multiply: Callable[[], Any], edge: int) -> float:
    """FLOP a second of a matrix product."""
    multiply()
    return 2.0 * edge**3 / statistics.median(seconds(multiply) for _ in range(10))


def seconds(run: Callable[[], Any]) -> float:
    began = time.perf_counter()
    run()
    return time.perf_counter() - began


def measure(way: str, size: str, steps: int) -> None:
    """The process of one way: a batch size in, the median seconds of its steps out."""
    try:
        of_batch, flops = jax_step(size) if way == JAX else torch_step(size, way)
    except ImportError as error:
        say(json.dumps({"absent": str(error)}))
        return

    def of_size(batch: int) -> dict[str, Any]:
        try:
            step = of_batch(batch)
            loss = step()
            return {"loss": loss, "seconds": statistics.median(seconds(step) for _ in range(steps))}
        except (RuntimeError, MemoryError) as error:  # how either library says that the memory is full
            return {"full": str(error).splitlines()[0]}

    answer({"absent": "", "peak": flops}, of_size)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", default="large")
    parser.add_argument("--batches", nargs="*", type=int, default=[32, 64, 128, 256, 512])
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--ways", nargs="*", default=list(BACKENDS), choices=BACKENDS)
    parser.add_argument(SIDE, type=json.loads, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.side:
        os.environ["KERAS_BACKEND"] = BACKENDS[options.side["way"]]  # before Keras is imported
        measure(**options.side)
        return
    rows, best = [], {}
    for way in options.ways:
        side = Side(__spec__.name, {"way": way, "size": options.size, "steps": options.steps})
        if side.ready["absent"]:
            say(f"{way}: {side.ready['absent']}")
            continue
        for batch in options.batches:
            result = side.ask(batch)
            if "full" in result:
                say(f"{way}, batch {batch}: {result['full']}")
                break
            speed = batch / result["seconds"]
            share, hours = speed * flop(options.size) / side.ready["peak"], PAPER_RECORDS / speed / CHIPS / 3600
            rows.append([way, str(batch), f"{speed:.1f}", f"{share:.0%}", f"{hours:.1f}", f"{result['loss']:.3f}"])
            best[way] = max(best.get(way, 0.0), round(speed, 2))
        side.end()
    header = ["way", "batch", "recordings/s", "of the measured matrix peak"]
    say(table([*header, f"projected hours, paper's run on {CHIPS} such chips", "first loss"], rows))
    for name, speed in REFERENCES.items():
        say(f"For comparison, as published for an A100: {name}, {speed} a second.")
    say(json.dumps({"size": options.size, "recordings_per_s": best, "gflop": flop(options.size) / 1e9, **machine()}))


if __name__ == "__main__":
    main()
