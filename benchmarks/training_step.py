"""How long a pretraining step takes, and how much memory it needs.

    python benchmarks/training_step.py --size=tiny --batch=16

One compiled call of several steps after another on the same recordings of noise, so that input counts for nothing;
the medians are shown. `step_cpu_ms` adds up the cores and says something on a busy machine too. PYTHONPATH=OTHER before
the command measures the package of another checkout.
"""

import argparse
import json
import resource
import statistics
import time

from commands import say

STEPS_PER_CALL = 5


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--size", default="tiny")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--precision", default="float32")
    parser.add_argument("--optimizer", default="AdamW", choices=["AdamW", "Muon"])
    parser.add_argument("--calls", type=int, default=6)
    options = parser.parse_args()

    import keras
    import numpy as np
    import tensorflow as tf

    from keras_ecg_mae.models.autoencoder import reconstruction_loss
    from keras_ecg_mae.models.build import ARCHITECTURES, build_autoencoder
    from keras_ecg_mae.training import optimizers
    from keras_ecg_mae.training.steps import compiled_steps
    from keras_ecg_mae.training.weight_rules import weight_rules

    keras.utils.set_random_seed(0)
    model = build_autoencoder(
        ARCHITECTURES[options.size],
        normalization="lead",
        mask_ratio=0.75,
        normalize_target=False,
        dtype=options.precision,
    )
    kind = getattr(optimizers, options.optimizer)
    optimizer = kind(1e-3, weight_rules(model), weight_decay=0.05, beta_1=0.9, beta_2=0.95)
    optimizer.build(model.trainable_variables)
    run_steps = compiled_steps(
        tf.distribute.get_strategy(),
        model,
        optimizer,
        lambda batch: reconstruction_loss(model(batch["ecg"], batch["mask_noise"], training=True)),
        options.batch,
    )
    generator = np.random.default_rng(0)
    batch = {
        "ecg": generator.normal(size=(options.batch, 12, 5000)).astype("float32"),
        "mask_noise": generator.random((options.batch, 240), "float32"),
    }
    batches = iter(tf.data.Dataset.from_tensors(batch).repeat())
    run_steps(batches, tf.constant(1))
    seconds, cpu_seconds = [], []
    for _ in range(options.calls):
        began, cpu_began = time.perf_counter(), time.process_time()
        losses = run_steps(batches, tf.constant(STEPS_PER_CALL))["losses"].numpy()
        seconds.append((time.perf_counter() - began) / STEPS_PER_CALL)
        cpu_seconds.append((time.process_time() - cpu_began) / STEPS_PER_CALL)
    result = {
        "size": options.size,
        "precision": options.precision,
        "batch": options.batch,
        "optimizer": options.optimizer,
        "step_ms": round(1000 * statistics.median(seconds), 1),
        "step_cpu_ms": round(1000 * statistics.median(cpu_seconds), 1),
        "fastest_ms": round(1000 * min(seconds), 1),
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
        "last_loss": float(losses[-1]),
    }
    say(json.dumps(result))


if __name__ == "__main__":
    main()
