"""The benchmark of a GPU, at a tiny size on the processor: PyTorch is an extra that the tests do without."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.mark.slow
def test_a_tiny_model_is_pretrained_with_keras_on_jax() -> None:
    command = [sys.executable, "-m", "benchmarks.gpu", "--size=tiny", "--batches", "2", "4", "--steps=1"]
    done = subprocess.run(
        [*command, "--ways", "Keras on JAX"],
        cwd=REPOSITORY,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(REPOSITORY), *sys.path])},
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert [line.split(" | ")[1] for line in lines if line.startswith("| Keras on JAX")] == ["2", "4"]
    result = json.loads(lines[-1])
    assert result["recordings_per_s"]["Keras on JAX"] > 0
    assert result["gflop"] == pytest.approx(0.658, abs=0.001)
