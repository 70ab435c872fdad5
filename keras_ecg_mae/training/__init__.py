"""Pretraining and fine-tuning under tf.distribute."""
