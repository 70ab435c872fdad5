"""Masked-autoencoder pretraining of a Vision Transformer on 12-lead ECGs, from hospital files to a served model."""

__version__ = "0.1.0"
