"""Layers of the masked autoencoder: Keras only, so they run on TensorFlow, JAX and PyTorch alike."""
