"""One module a question: `python -m benchmarks.NAME` from the repository's root. docs/performance.md has answers."""
