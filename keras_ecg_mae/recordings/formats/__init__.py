"""One file a format: what tells it, and how it is read."""
