"""What an export says about itself: `assets/model.json`, for programs, and the checksums beside it."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import keras
import numpy as np

from keras_ecg_mae.config import Quality
from keras_ecg_mae.errors import RunError
from keras_ecg_mae.spec import signal_contract
from keras_ecg_mae.storage import files_under, read_if_there

ASSETS = "assets"
MODEL_FILE = "model.json"
CHECKSUMS = "SHA256SUMS"
INTENDED_USE = "Research. Not a medical device."


@dataclass(frozen=True)
class Decision:
    """What a classifier's probability is of, when it is called positive, and how good that is.

    Attributes:
        label: what a positive label means, e.g. `lvsd`.
        threshold: a probability of at least this is called positive.
        threshold_rule: how it was chosen, in words.
        confidence: level of the intervals.
        evaluation: test ECGs by institution and pool, each with the fields of `evaluation.scoring.Group`.
        refused: why the gate would have refused it, where it was exported all the same.
        lvef_threshold: an ejection fraction under this percentage is a positive label; None with another label.
    """

    label: str
    threshold: float
    threshold_rule: str
    confidence: float
    evaluation: Sequence[Mapping[str, Any]]
    refused: Sequence[str] = ()
    lvef_threshold: float | None = None


@dataclass(frozen=True)
class Description:
    """What `model.json` holds, as far as programs ask for it.

    Attributes:
        model: `"classifier"` or `"autoencoder"`.
        dataset: checksum of the dataset it was trained and tested on.
        signal: the signal contract.
        max_flat_leads, long_recordings, quality: as in `Origin`.
        decision: a classifier's; None of an autoencoder.
        output: name of the probability among the outputs; empty of an autoencoder.
    """

    model: Literal["classifier", "autoencoder"]
    dataset: str
    signal: Mapping[str, Any]
    max_flat_leads: int
    long_recordings: str
    quality: Quality
    decision: Decision | None
    output: str


def write_description(folder: Path, content: Mapping[str, Any]) -> None:
    """Writes `assets/model.json` of a version that nobody sees yet."""
    (folder / ASSETS).mkdir(exist_ok=True)
    text = json.dumps({"signal": signal_contract(), **content}, indent=2, ensure_ascii=False, allow_nan=False)
    (folder / ASSETS / MODEL_FILE).write_text(text + "\n", encoding="utf-8")


def describe_decision(decision: Decision) -> dict[str, Any]:
    """A decision's part of `model.json`."""
    content = asdict(decision)
    content["evaluation"] = [dict(group) for group in decision.evaluation]
    return content


def read_description(version: Path) -> Description:
    """Reads `assets/model.json` of a version.

    Raises:
        RunError: it is missing, or not what an export of this package says.
    """
    path = version / ASSETS / MODEL_FILE
    try:
        content = read_if_there(path)
        if content is None:
            raise FileNotFoundError("no such file")
        data = json.loads(content)
        decision = None
        if data["model"] == "classifier":
            decision = Decision(
                label=data["label"],
                threshold=float(data["threshold"]),
                threshold_rule=data["threshold_rule"],
                confidence=float(data["confidence"]),
                evaluation=tuple(data["evaluation"]),
                refused=tuple(data["refused"]),
                lvef_threshold=data["lvef_threshold"],
            )
        return Description(
            model=data["model"],
            dataset=data["dataset"],
            signal=data["signal"],
            max_flat_leads=int(data["max_flat_leads"]),
            long_recordings=data["long_recordings"],
            quality=Quality(**data["quality"] | {"reject": tuple(data["quality"].get("reject", ()))}),
            decision=decision,
            output=data["output"],
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunError(f"{path}: Expected the description of an export. Received: {error}") from error


def weights_sha256(model: keras.Model) -> str:
    """SHA-256 of a model's weights alone: in the order of `model.weights`, each as little-endian float32."""
    digest = hashlib.sha256()
    for weight in model.weights:
        digest.update(np.ascontiguousarray(keras.ops.convert_to_numpy(weight), dtype="<f4").data)
    return digest.hexdigest()


def write_checksums(folder: Path) -> None:
    """Writes `assets/SHA256SUMS` over all other files, for `sha256sum --check assets/SHA256SUMS` in the version."""
    path = folder / ASSETS / CHECKSUMS
    lines = []
    for file in sorted(files_under(folder)):
        digest = hashlib.sha256()
        with file.open("rb") as content:
            while chunk := content.read(1 << 23):
                digest.update(chunk)
        lines.append(f"{digest.hexdigest()}  {file.relative_to(folder)}\n")
    path.write_text("".join(lines), encoding="utf-8")
