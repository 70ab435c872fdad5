"""Bazel's way into pytest: runs the given test files, without those that only `make test` has the time for."""

import os
import sys

import pytest


def main() -> int:
    # Bazel gives a test one folder to write to, and no home.
    writable = os.environ["TEST_TMPDIR"]
    os.environ["HOME"] = os.environ["TMPDIR"] = writable
    os.environ["HYPOTHESIS_STORAGE_DIRECTORY"] = os.path.join(writable, "hypothesis")
    options = ["-m", "not slow", "-p", "no:cacheprovider", f"--junitxml={os.environ['XML_OUTPUT_FILE']}"]
    code = pytest.main([*options, *sys.argv[1:]])
    return 0 if code == pytest.ExitCode.NO_TESTS_COLLECTED else int(code)


if __name__ == "__main__":
    sys.exit(main())
