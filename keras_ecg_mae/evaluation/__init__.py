"""Evaluation: metrics with intervals, the predictions table, figures. The model comes in as a function."""
