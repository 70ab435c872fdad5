"""Encoder, masked autoencoder and classifier: Keras only, so they run on TensorFlow, JAX and PyTorch alike."""
