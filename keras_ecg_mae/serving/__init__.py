"""Exports for TF Serving, and prediction with them."""
