"""What an export says about itself: `assets/model.json`, for programs, and the checksums beside it."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

import keras
import numpy as np

from keras_ecg_mae import __version__
from keras_ecg_mae.cohort.description import CohortDescription
from keras_ecg_mae.config import Cohort, Quality
from keras_ecg_mae.dataset import Manifest
from keras_ecg_mae.errors import RunError
from keras_ecg_mae.files import files_under, read_if_there, read_json, sha256
from keras_ecg_mae.runs.folder import SETTINGS, Made, git_revision, now, read_made
from keras_ecg_mae.runs.training_data import TrainingData, to_json
from keras_ecg_mae.spec import signal_contract

ASSETS = "assets"
MODEL_FILE = "model.json"
CHECKSUMS = "SHA256SUMS"
INTENDED_USE = "Research. Not a medical device."

# Settings that a model card shows, of those that decide a stage.
_SHOWN = (
    *("architecture", "size", "pooling", "mask_ratio", "normalize_target", "optimizer", "encoder", "transfer"),
    *("recipe", "trained", "label_fraction", "precision", "seed"),
)


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
        max_flat_leads, long_recordings, quality: as in `Provenance`.
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


@dataclass(frozen=True)
class Provenance:
    """Where a model comes from.

    Attributes:
        trained: what it was trained on.
        cohort: who is in that dataset.
        max_flat_leads, long_recordings: `prepare`'s settings, which say what becomes of a recording before the model.
        quality: what `prepare` refused recordings for, and by which limits: settings of `Quality`.
        settings: others that made it, by name, for the model card.
        made: when and by which revision its weights were finished; None where it is not known.
    """

    trained: TrainingData
    cohort: CohortDescription
    max_flat_leads: int = 0
    long_recordings: str = "first"
    quality: Mapping[str, Any] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    made: Made | None = None


def provenance_of(trained: TrainingData, stage: Path, manifest: Manifest) -> Provenance:
    """Where a run's model comes from.

    Args:
        trained: what it was trained on.
        stage: the folder of the stage that made it. What it was made with stands there: the settings of a later
            command may be others.
        manifest: the dataset it was trained on.
    """
    made_with, prepared = read_json(stage / SETTINGS) or {}, manifest.settings
    return Provenance(
        trained=trained,
        cohort=manifest,
        max_flat_leads=prepared.get("max_flat_leads", Cohort.max_flat_leads),
        long_recordings=prepared.get("long_recordings", Cohort.long_recordings),
        quality={
            item.name: prepared[flag] for item in fields(Quality) if (flag := Quality.flag(item.name)) in prepared
        },
        settings={name: made_with[name] for name in _SHOWN if name in made_with},
        made=read_made(stage),
    )


def decision_json(decision: Decision) -> dict[str, Any]:
    """A decision's part of `model.json`."""
    return {**asdict(decision), "evaluation": [dict(group) for group in decision.evaluation]}


def model_json(model: keras.Model, name: str, provenance: Provenance, batch_sizes: Sequence[int]) -> dict[str, Any]:
    """What `model.json` and the model card say of every kind of model, as it is exported now."""
    return {
        "signal": signal_contract(),
        "name": name,
        "precision": model.encoder.dtype_policy.name,
        "normalization": model.normalization.mode,
        "max_flat_leads": provenance.max_flat_leads,
        "long_recordings": provenance.long_recordings,
        "quality": provenance.quality,
        "weights": {"count": model.count_params(), "sha256": weights_sha256(model)},
        "warmup_batch_sizes": list(batch_sizes),
        "intended_use": INTENDED_USE,
        "run": provenance.trained.run,
        "dataset": provenance.trained.dataset.sha256,
        **to_json(provenance.trained),
        "external_institutions": list(provenance.cohort.external_institutions),
        "counts": [asdict(count) for count in provenance.cohort.counts],
        "settings": dict(provenance.settings),
        "trained": provenance.made and asdict(provenance.made),
        "exported": asdict(Made(now(), git_revision(), __version__)),
    }


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
        data, decision = json.loads(content), None
        if data["model"] == "classifier":
            values = {item.name: data[item.name] for item in fields(Decision)}
            lists = {name: tuple(values[name]) for name in ("evaluation", "refused")}
            decision = Decision(**{**values, **lists, "threshold": float(values["threshold"])})
        quality = {**data["quality"], "reject": tuple(data["quality"].get("reject", ()))}
        return Description(
            **{item.name: data[item.name] for item in fields(Description) if item.name not in ("quality", "decision")},
            quality=Quality(**quality),
            decision=decision,
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
    lines = [f"{sha256(str(file))}  {file.relative_to(folder)}\n" for file in sorted(files_under(folder))]
    (folder / ASSETS / CHECKSUMS).write_text("".join(lines), encoding="utf-8")
