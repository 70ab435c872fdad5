"""Readers that crash, hang or eat memory, planted into the processes that a test starts.

A folder with this program as `sitecustomize.py` on the module path makes each new process know the planted format.
"""

from pathlib import Path

# Faults that end the process or are refused in it, each with its reason code.
FAULTS = {"segfault": "malformed", "abort": "malformed", "busy": "too_long", "asleep": "too_long", "memory": "too_long"}
_PROGRAM = """
import ctypes, os, time
import numpy as np
from keras_ecg_mae.recordings import isolation, open
isolation.PROCESSOR_S, isolation.WAITING_S = 0.5, 2

def read(source):
    fault = source.head.split()[1].decode()
    if fault == "segfault":
        ctypes.string_at(0)
    if fault == "abort":
        os.abort()
    while fault == "busy":
        pass
    if fault == "asleep":
        time.sleep(1000)
    eaten = []
    while fault == "memory":
        eaten.append(np.ones(1 << 24))
    raise ValueError("Jane Doe, born 1931-02-27")

planted = open.Format("planted", "planted", lambda source: source.head.startswith(b"PLANTED"), read)
open.FORMATS = (planted, *open.FORMATS)
"""


def plant(folder: Path) -> str:
    """Writes `sitecustomize.py` into a folder. Returns the folder, for the module path of a process."""
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(_PROGRAM)
    return str(folder)


def planted_file(path: Path, fault: str) -> Path:
    """A file that the planted reader has the fault at; `"error"` is an exception that quotes a patient."""
    path.write_bytes(b"PLANTED %s " % fault.encode())
    return path
