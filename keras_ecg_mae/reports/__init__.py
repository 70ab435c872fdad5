"""Finished runs and cohorts in the paper's tables, beside each other and beside the paper's numbers."""
