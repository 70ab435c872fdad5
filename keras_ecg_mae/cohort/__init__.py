"""A cohort's table: its cells, labels and patients, the split, and what is said of who is in it."""
