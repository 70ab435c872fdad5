"""A run's folder and record: what its stages were asked, what they left, and what its weights were trained on."""
