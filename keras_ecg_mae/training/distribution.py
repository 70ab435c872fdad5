"""Which devices train."""

import tensorflow as tf
from absl import logging

from keras_ecg_mae.errors import ConfigError


def make_strategy(name: str) -> tf.distribute.Strategy:
    """The strategy that `--strategy` names.

    `one_device` is the first GPU, or the CPU; `mirrored` is all GPUs of this machine, or all its logical CPUs, in
    step; `auto` is `mirrored` where there are several GPUs.
    """
    gpus = tf.config.list_logical_devices("GPU")
    if name == "mirrored" or (name == "auto" and len(gpus) > 1):
        devices = [device.name for device in gpus or tf.config.list_logical_devices("CPU")]
        strategy: tf.distribute.Strategy = tf.distribute.MirroredStrategy(devices)
    else:
        strategy = tf.distribute.OneDeviceStrategy((gpus or tf.config.list_logical_devices("CPU"))[0].name)
    logging.info("Training on %d replica(s): %s.", strategy.num_replicas_in_sync, type(strategy).__name__)
    return strategy


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
