"""A benchmark's sides: a process each, so that their threads do not meet and each has a peak of memory of its own."""

import json
import os
import platform
import resource
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from benchmarks.commands import say

SIDE = "--side"


class Side:
    """One side in its process, which waits while another is asked.

    Args:
        module: run by `python -m`, with `settings` as JSON after `--side`.
        settings: what it makes; its module knows.

    Attributes:
        ready: what it said of itself when it was ready.
    """

    def __init__(self, module: str, settings: dict[str, Any]):
        self._name = f"{module} {settings}"
        self._process = subprocess.Popen(
            [sys.executable, "-m", module, SIDE, json.dumps(settings)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={"TF_CPP_MIN_LOG_LEVEL": "2", **os.environ},
        )
        self.ready = self._read()

    def ask(self, question: Any) -> Any:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(question) + "\n")
        self._process.stdin.flush()
        return self._read()

    def end(self) -> float:
        """Its peak of memory in megabytes."""
        peak = float(self.ask(None))
        self._process.communicate()
        return peak

    def _read(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            sys.exit(f"{self._name}: the process ended with status {self._process.wait()}.")
        return json.loads(line)


def answer(ready: Any, compute: Callable[[Any], Any]) -> None:
    """In a side's process: answers until it is asked for nothing, which it answers with its peak of memory."""
    say(json.dumps(ready))
    for line in sys.stdin:
        question = json.loads(line)
        if question is None:
            say(json.dumps(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024))
            return
        say(json.dumps(compute(question)))


def machine() -> dict[str, Any]:
    """Processor and versions, for a benchmark's line of JSON."""
    names = (line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name"))
    processor = next(names, platform.processor()).partition(":")[2].strip()
    versions = {}
    for name in ("tensorflow", "keras", "jax", "torch"):
        with suppress(PackageNotFoundError):
            versions[name] = version(name)
    return {"machine": f"{processor}, {len(os.sched_getaffinity(0))} cores", "versions": versions}
