"""Exports that the tests of serving/ share."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

if TYPE_CHECKING:
    from keras_ecg_mae.models.autoencoder import MaskedAutoencoder
    from keras_ecg_mae.models.classifier import Classifier

CLIENT = Path(__file__).with_name("c_api_client.py")
SERVER = Path(__file__).with_name("model_server.py")


@dataclass(frozen=True)
class Server:
    """A running server's two addresses, and the name of the model it serves."""

    grpc: str
    rest: str
    name: str

    def settings(self, way: str, **others: object) -> Any:
        """To ask it by `grpc` or by `rest`."""
        from keras_ecg_mae.config import Prediction

        values = {"model": self.name, "server_timeout_s": 20.0, "server_attempts": 2, **others}
        return Prediction(server=getattr(self, way), **values)  # type: ignore[arg-type]


def _group(
    name: str, role: str, value: float | None, low: float | None, high: float | None, *, pooled: bool = False
) -> dict[str, Any]:
    """An institution's or pool's accuracy, as `evaluation` has it."""
    share = {"count": 3, "total": 4, "value": 0.75, "low": 0.3, "high": 0.95}
    nothing = {"count": 0, "total": 0, "value": None, "low": None, "high": None}
    return {
        "name": name,
        "role": role,
        "pooled": pooled,
        "ecgs": 1200,
        "patients": 900,
        "positive_ecgs": 0 if value is None else 40,
        "positive_patients": 0 if value is None else 30,
        "auroc": {
            "value": value,
            "low": low,
            "high": high,
            "standard_error": None,
            "method": "logit",
            "undefined": "no positive ECG" if value is None else "",
        },
        "operating_point": {
            "threshold": 0.4,
            "sensitivity": nothing if value is None else share,
            "specificity": share,
            "positive_predictive_value": share,
            "negative_predictive_value": share,
        },
        "auprc": None,
        "brier": 0.1,
    }


def _decision(label: str = "lvsd", threshold: float = 0.4, **changes: Any) -> Any:
    from keras_ecg_mae.serving.model_json import Decision

    evaluation = (
        _group("a", "internal", 0.91, 0.85, 0.95),
        _group("b|c", "internal", None, None, None),
        _group("all internal", "internal", 0.9, 0.84, 0.94, pooled=True),
    )
    values = {"threshold_rule": "largest sum (Youden)", "confidence": 0.95, "evaluation": evaluation}
    return Decision(label=label, threshold=threshold, **{**values, **changes})


def _provenance(label: str = "lvsd", **changes: Any) -> Any:
    from keras_ecg_mae.cohort.description import CohortDescription, Count
    from keras_ecg_mae.runs.folder import Made
    from keras_ecg_mae.runs.record import Dataset
    from keras_ecg_mae.runs.training_data import TrainingData
    from keras_ecg_mae.serving.model_json import Provenance

    counts = (Count("a", "train", 1234, 300, 900, 50), Count("b|c", "test", 90, 0, 95, 5))
    dataset = Dataset("datasets/x", "5d41", 1340)
    pretrained = TrainingData("runs/y", dataset, "", None, "k", {"a": {"train": 1250, "test": 120}})
    trained = TrainingData(
        "runs/x",
        dataset,
        label,
        40.0 if label == "lvsd" else None,
        "k",
        {"a": {"train": 1200, "validation": 50}},
        "runs/y/pretrain/autoencoder.keras",
        pretrained,
    )
    values = {
        "trained": trained,
        "cohort": CohortDescription(label, ("b|c",), counts, ()),
        "settings": {"size": "tiny"},
        "made": Made("2026-01-02T03:04:05+00:00", "0123abc", "0.1.0"),
    }
    return Provenance(**{**values, **changes})


@pytest.fixture(scope="session")
def group() -> Callable[..., dict[str, Any]]:
    return _group


@pytest.fixture(scope="session")
def decision() -> Callable[..., Any]:
    """Makes the decision of a classifier that was evaluated at the institutions `a` and, without AUROC, `b|c`."""
    return _decision


@pytest.fixture(scope="session")
def provenance() -> Callable[..., Any]:
    """Makes the provenance of a model of a dataset of the institutions `a` and, external, `b|c`."""
    return _provenance


@pytest.fixture(scope="session")
def classifier() -> "Classifier":
    import keras

    from keras_ecg_mae.models.build import Transformer, build_classifier

    keras.utils.set_random_seed(3)
    model = build_classifier(Transformer(32, 1, 2), normalization="record", pooling="mean")
    for weight in model.head.trainable_weights:  # so that probabilities differ from each other
        weight.assign(keras.random.normal(weight.shape, stddev=0.2))
    return model


@pytest.fixture(scope="session")
def autoencoder() -> "MaskedAutoencoder":
    import keras

    from keras_ecg_mae.models.build import Architecture, Transformer, build_autoencoder

    keras.utils.set_random_seed(4)
    small = Architecture(Transformer(32, 1, 2), Transformer(16, 1, 2))
    return build_autoencoder(small, normalization="lead", mask_ratio=0.75, normalize_target=True)


@pytest.fixture(scope="session")
def exported(classifier: "Classifier", tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A version of `classifier`."""
    from keras_ecg_mae.serving.saved_model import export_classifier

    folder = tmp_path_factory.mktemp("exported") / "lvsd"
    return export_classifier(classifier, folder, decision=_decision(), provenance=_provenance(), batch_sizes=(1, 3))


@pytest.fixture(scope="session")
def exported_autoencoder(autoencoder: "MaskedAutoencoder", tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A version of `autoencoder`."""
    from keras_ecg_mae.serving.saved_model import export_autoencoder

    folder = tmp_path_factory.mktemp("exported") / "mae"
    validation = {
        "validation_error": 0.6,
        "validation_record_mean": 1.0,
        "validated_on": "validation recordings, on which it was trained as well",
    }
    return export_autoencoder(autoencoder, folder, provenance=_provenance(), validation=validation, batch_sizes=(2,))


@pytest.fixture(scope="session")
def ecgs() -> np.ndarray:
    """Sixteen recordings `(16, 12, 5000)` mV that differ, whole microvolts as a dataset stores them."""
    time = np.arange(5000) / 500
    waves = np.stack([np.sin(2 * np.pi * (1 + record / 8) * time) for record in range(16)])
    leads = np.linspace(0.2, 1.5, 12)[None, :, None]
    return (np.rint(1000 * waves[:, None] * leads) * np.float32(1e-3)).astype(np.float32)


@pytest.fixture
def ask_c_api(tmp_path: Path) -> Callable[..., dict[str, np.ndarray]]:
    """Asks an export through TensorFlow's C API, in a process without Python's TensorFlow and this package."""

    def ask(version: Path, ecg_mv: np.ndarray, signature: str = "serving_default") -> dict[str, np.ndarray]:
        spec = find_spec("tensorflow")
        assert spec is not None
        assert spec.submodule_search_locations
        library = Path(spec.submodule_search_locations[0]) / "libtensorflow_cc.so.2"
        np.asarray(ecg_mv, "<f4").tofile(tmp_path / "ecg.bin")
        arguments = [library, version, signature, len(ecg_mv), tmp_path / "ecg.bin", tmp_path / "answers.json"]
        asked = subprocess.run(
            [sys.executable, "-I", "-S", CLIENT, *map(str, arguments)], check=False, capture_output=True, text=True
        )
        assert asked.returncode == 0, asked.stderr
        answers: Mapping[str, Any] = json.loads((tmp_path / "answers.json").read_text())
        return {name: np.reshape(answer["values"], answer["shape"]) for name, answer in answers.items()}

    return ask


@pytest.fixture(scope="session")
def start_server() -> Iterator[Callable[..., Server]]:
    """Starts a server of an export's version under a name; once for each of these."""
    servers: dict[tuple[str, ...], Server] = {}
    processes: list[subprocess.Popen[str]] = []

    def start(version: Path, name: str) -> Server:
        arguments = (str(version), name)
        if arguments not in servers:
            process = subprocess.Popen([sys.executable, str(SERVER), *arguments], stdout=subprocess.PIPE, text=True)
            processes.append(process)
            assert process.stdout is not None
            ports = process.stdout.readline().split()
            servers[arguments] = Server(f"127.0.0.1:{ports[0]}", f"http://127.0.0.1:{ports[1]}", name)
        return servers[arguments]

    yield start
    for process in processes:
        process.kill()
        process.communicate()
