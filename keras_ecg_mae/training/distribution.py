"""Which devices train, on one machine or on several."""

import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache

import tensorflow as tf

from keras_ecg_mae.errors import ConfigError, PreemptedError


@lru_cache(maxsize=1)  # workers can be connected once in a process
def make_strategy(name: str) -> tf.distribute.Strategy:
    """The strategy that `--strategy` names.

    `one_device` is the first GPU, or the CPU; `mirrored` is all GPUs of this machine, or all its logical CPUs, in
    step; `multi_worker` is those of all machines that the environment variable TF_CONFIG names. `auto` is
    `multi_worker` where TF_CONFIG names several, `mirrored` where there are several GPUs.

    To be called before the first tensor when there are several workers.

    Raises:
        ConfigError: TF_CONFIG is not as TensorFlow's guide to multi-worker training describes it.
        PreemptedError: the other workers cannot be met.
    """
    workers = _workers()
    if name == "multi_worker" or (name == "auto" and workers > 1):
        if not workers:
            raise ConfigError(
                "Expected the environment variable TF_CONFIG with --strategy=multi_worker. Received none."
            )
        with peer_errors():
            strategy: tf.distribute.Strategy = tf.distribute.MultiWorkerMirroredStrategy()
    else:
        gpus = tf.config.list_logical_devices("GPU")
        devices = [device.name for device in gpus or tf.config.list_logical_devices("CPU")]
        if name == "mirrored" or (name == "auto" and len(gpus) > 1):
            strategy = tf.distribute.MirroredStrategy(devices)
        else:
            strategy = tf.distribute.OneDeviceStrategy(devices[0])
    return strategy


def _workers() -> int:
    """How many workers TF_CONFIG names, 0 without it."""
    text = os.environ.get("TF_CONFIG", "")
    if not text:
        return 0
    try:
        config = json.loads(text)
        cluster, task = config["cluster"], config["task"]
        addresses = [*cluster.get("chief", []), *cluster["worker"]]
        cluster[task["type"]][int(task["index"])]
    except (ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
        raise ConfigError(
            'Expected TF_CONFIG like {"cluster": {"worker": ["host:port", ...]}, "task": {"type": "worker", "index": '
            f"0}}}}. Received {text!r} ({type(error).__name__}: {error})."
        ) from error
    return len(addresses)


def worker_count(strategy: tf.distribute.Strategy) -> int:
    """How many processes train together."""
    return _workers() if isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy) else 1


def is_chief(strategy: tf.distribute.Strategy) -> bool:
    """Whether this process is the one of its strategy's workers that writes the run folder."""
    return bool(strategy.extended.should_checkpoint)


def agreed(strategy: tf.distribute.Strategy, values: Sequence[float]) -> list[float]:
    """The sums of the workers' values, the same for all of them. Each waits for the others.

    Raises:
        PreemptedError: another worker has gone.
    """
    workers = worker_count(strategy)
    if workers == 1:
        return list(values)
    with peer_errors():
        total = _summed(strategy)(tf.constant(values, tf.float64)).numpy()
    return [float(value) * workers / strategy.num_replicas_in_sync for value in total]


@lru_cache(maxsize=1)
def _summed(strategy: tf.distribute.Strategy) -> Callable[[tf.Tensor], tf.Tensor]:
    """A compiled function: this worker's numbers -> their sums over all replicas."""

    @tf.function(input_signature=[tf.TensorSpec([None], tf.float64)])
    def summed(values: tf.Tensor) -> tf.Tensor:
        return strategy.reduce(tf.distribute.ReduceOp.SUM, strategy.run(lambda: values), axis=None)

    return summed


@contextmanager
def peer_errors(strategy: tf.distribute.Strategy | None = None) -> Iterator[None]:
    """Around what needs the other workers.

    Args:
        strategy: around a whole training, whose failures may also be this worker's own; these pass as they are.

    Raises:
        PreemptedError: another worker no longer answers.
    """
    try:
        yield
    except tf.errors.OpError as error:
        if strategy is not None and not _of_a_peer(strategy, error):
            raise
        raise PreemptedError(f"Another worker does not answer; the same command goes on. ({reason(error)})") from error


def _of_a_peer(strategy: tf.distribute.Strategy, error: tf.errors.OpError) -> bool:
    own = (tf.errors.ResourceExhaustedError, tf.errors.DataLossError, tf.errors.NotFoundError)
    if worker_count(strategy) == 1 or isinstance(error, own):
        return False
    return isinstance(error, tf.errors.UnavailableError | tf.errors.AbortedError) or "ollective" in error.message


def reason(error: tf.errors.OpError) -> str:
    """TensorFlow's first line that says something."""
    lines = [line for line in error.message.splitlines() if line and "Graph execution error" not in line]
    return lines[0] if lines else type(error).__name__


def check_batch(flag: str, batch_size: int, strategy: tf.distribute.Strategy, accumulation: int) -> None:
    """Raises `ConfigError` where replicas, and the parts each computes, cannot share a batch evenly."""
    replicas = strategy.num_replicas_in_sync
    if batch_size % (replicas * accumulation):
        parts = f" x --accumulation={accumulation}" if accumulation > 1 else ""
        raise ConfigError(
            f"Expected --{flag} to be a multiple of the {replicas} replicas{parts}. Received {batch_size}."
        )


def let_memory_grow() -> None:
    """Takes GPU memory as it is needed, since GPUs are shared. To be called before the first tensor."""
    for device in tf.config.list_physical_devices("GPU"):
        tf.config.experimental.set_memory_growth(device, True)
