"""Fixtures that every room's tests share."""

import csv
import ctypes
import gc
import os
import resource
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import settings

Rows = Sequence[dict[str, Any]]

if TYPE_CHECKING:
    from keras_ecg_mae.config import Config
    from keras_ecg_mae.dataset import Manifest
    from keras_ecg_mae.runs.training_data import TrainingData

# No deadline: the first call of a TensorFlow function compiles it. Derandomised: the same examples on every machine.
settings.register_profile("repository", deadline=None, derandomize=True, max_examples=50)
settings.load_profile("repository")

# What TensorFlow's C++ side says at every start; its errors reach Python as exceptions.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

REPOSITORY = Path(__file__).resolve().parent.parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with slow tests first: of two processes that share the files, neither then waits for the other's last."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


@pytest.fixture(scope="module", autouse=True)
def _memory_given_back() -> Iterator[None]:
    """After each file its models are freed, and what the C library keeps for later goes back to the system."""
    yield
    if "keras" in sys.modules:
        sys.modules["keras"].backend.clear_session()
    gc.collect()
    if sys.platform == "linux":
        ctypes.CDLL(None).malloc_trim(0)


PEAKS: list[int] = []


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Notes the most memory that this process, and the largest of those it has started, have had, in MB."""
    peaks = [resource.getrusage(who).ru_maxrss // 1024 for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    PEAKS.extend(peaks)
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["peaks"] = peaks


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    PEAKS.extend(getattr(node, "workeroutput", {}).get("peaks", []))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    terminalreporter.line(f"largest test process: {max(PEAKS, default=0):,} MB")


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real recordings and golden values that lies beside the checkout, in CI always."""
    folder = REPOSITORY.parent / "shared"
    if not folder.is_dir():
        pytest.skip("../shared (real recordings) is not on this machine")
    return folder


@pytest.fixture(scope="session")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> "Manifest":
    """A dataset of 90 simulated patients of three institutions, the third external."""
    # Imported where it is used: under Bazel a room's tests see that room and those to its left.
    from keras_ecg_mae.config import Cohort
    from keras_ecg_mae.dataset import prepare
    from keras_ecg_mae.simulation.cohort import write_simulated_cohort

    folder = tmp_path_factory.mktemp("simulated")
    table = folder / "recordings" / "labels.csv"
    write_simulated_cohort(folder / "recordings", table, patients=90, institutions=3, prevalence=0.3, seed=1)
    return prepare(
        Cohort(
            recordings=str(folder / "recordings"),
            labels=str(table),
            output=str(folder / "dataset"),
            external_institutions=("institution_3",),
            workers=1,
        )
    )


@dataclass(frozen=True)
class S3Server:
    """A local S3 server with the bucket `ecg`: what a process needs to reach it, and boto3's client for it."""

    environment: dict[str, str]
    client: Any

    def upload(self, folder: Path, prefix: str) -> str:
        """Uploads a folder's files. Returns the address of the folder they are in."""
        for path in folder.rglob("*"):
            if path.is_file():
                self.client.upload_file(str(path), "ecg", f"{prefix}/{path.relative_to(folder)}")
        return f"s3://ecg/{prefix}"

    def read(self, key: str) -> bytes:
        content: bytes = self.client.get_object(Bucket="ecg", Key=key)["Body"].read()
        return content

    def keys(self, prefix: str) -> list[str]:
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket="ecg", Prefix=prefix)
        return [item["Key"] for page in pages for item in page.get("Contents", [])]


@pytest.fixture(scope="session")
def s3() -> Iterator[S3Server]:
    import boto3
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    address, region, key = f"http://{host}:{port}", "us-east-1", "test"
    client = boto3.client(
        "s3", endpoint_url=address, region_name=region, aws_access_key_id=key, aws_secret_access_key=key
    )
    client.create_bucket(Bucket="ecg")
    yield S3Server(
        {
            "S3_ENDPOINT": address,
            "AWS_REGION": region,
            "AWS_ACCESS_KEY_ID": key,
            "AWS_SECRET_ACCESS_KEY": key,
            "AWS_EC2_METADATA_DISABLED": "true",
        },
        client,
    )
    server.stop()


@pytest.fixture
def write_table(tmp_path: Path) -> Callable[[Rows], Path]:
    """Writes a table of rows; a column that a row lacks is empty there."""

    def write(rows: Rows) -> Path:
        columns = list(dict.fromkeys(name for row in rows for name in row))
        with open(tmp_path / "labels.csv", "w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, columns, restval="")
            writer.writeheader()
            writer.writerows(rows)
        return tmp_path / "labels.csv"

    return write


@pytest.fixture
def tiny_config(simulated: "Manifest", tmp_path: Path) -> "Config":
    """Settings of a run over `simulated` that takes seconds."""
    from keras_ecg_mae.config import Config, Export, Finetuning, Model, Pretraining, Training

    return Config(
        model=Model(size="tiny"),
        training=Training(dataset=simulated.folder, run=str(tmp_path / "run"), checkpoint_minutes=0),
        pretraining=Pretraining(
            epochs=2, batch_size=8, base_learning_rate=1.6e-2, warmup_epochs=1, validation_epochs=2, time_shift=True
        ),
        finetuning=Finetuning(epochs=2, batch_size=8, learning_rates=(1e-3, 3e-4)),
        export=Export(saved_models=str(tmp_path / "saved_models"), name="test", export_despite_gate=True),
    )


@pytest.fixture
def made_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Makes the folder of a finished run with made-up predictions.

    Of the institutions, the external ones are tested on whole, the others on part of their ECGs. All runs hold the
    same records with the same labels; `gain` separates the labels further, `seed` varies the rest. A ViT starts from
    its own pretraining on the training ECGs, or from `--finetune_encoder`, whose training data is `before`.
    """

    def make(
        name: str,
        *flags: str,
        dataset: str = "dataset1",
        external: tuple[str, ...] = ("b", "c", "d"),
        institutions: tuple[str, ...] = ("a", "b", "c", "d"),
        before: "TrainingData | None" = None,
        gain: float = 0.0,
        seed: int = 0,
        label_name: str = "lvsd",
        lvef_threshold: float = 40.0,
    ) -> Path:
        import hashlib

        import numpy as np

        from keras_ecg_mae.evaluation import evaluate as evaluation
        from keras_ecg_mae.files import write_json
        from keras_ecg_mae.runs.record import Command, Dataset, record_command
        from keras_ecg_mae.runs.training_data import TrainingData, to_json

        run, ecgs = tmp_path / name, 400
        shared, own = np.random.default_rng(1), np.random.default_rng(seed + 10)
        label = shared.integers(0, 2, ecgs)
        patient = np.arange(ecgs) // 2
        institution = np.array(institutions)[patient % len(institutions)]
        score = (1 + gain) * label + shared.normal(size=ecgs) + 0.5 * own.normal(size=ecgs)
        validation = ~np.isin(institution, external) & (patient < 60)
        batch = {
            "ecg": score[:, None, None],
            "label": label,
            "record_id": np.array([f"r{index}" for index in range(ecgs)]),
            "patient_key": np.array([f"p{number}" for number in patient]),
            "institution": institution,
            "split": np.where(validation, "validation", "test"),
            "sex": np.where(patient % 3 == 0, "F", "M"),
            "age": 30.0 + patient % 60,
        }
        for figure in ("roc_figure", "calibration_figure"):  # a second to draw, and nobody looks at them
            monkeypatch.setattr(evaluation, figure, lambda *_: b"")
        evaluation.evaluate(
            lambda ecg: 1 / (1 + np.exp(-ecg[:, 0, 0])),
            [batch],
            run / "evaluation",
            external_institutions=external,
            label_name=label_name,
            confidence=0.95,
        )
        given = dict(flag.removeprefix("--").split("=", 1) for flag in flags)
        sha256 = hashlib.sha256(dataset.encode()).hexdigest()
        data = Dataset(f"missing/{dataset}", sha256, 400)
        seen = {
            name: {"train": 100, "validation": int((validation & (institution == name)).sum())}
            for name in institutions
            if name not in external
        }
        encoder = given.get("finetune_encoder", "random" if given.get("architecture") == "cnn" else "pretrain")
        if encoder == "pretrain":
            before = TrainingData(str(run), data, "", None, "", {name: {"train": 100} for name in seen})
            weights = f"{run}/pretrain/autoencoder.keras"
        else:
            weights = "" if encoder == "random" else encoder
        threshold = lvef_threshold if label_name == "lvsd" else None
        trained = TrainingData(str(run), data, label_name, threshold, "", seen, weights, before)
        write_json(run / "evaluation" / "settings.json", {"dataset": sha256, "finetune": to_json(trained)})
        write_json(
            run / "finetune" / "settings.json",
            {
                "pretrain": {"steps": 3} if encoder == "pretrain" else None,
                "architecture": given.get("architecture", "vit"),
                "encoder": encoder,
                "recipe": given.get("finetune_recipe", "paper"),
                "trained": given.get("finetune_trained", "all"),
                "label_fraction": float(given.get("finetune_label_fraction", "1")),
                "transfer": given.get("finetune_transfer", "encoder"),
                "size": given.get("size", "large"),
                "dataset": sha256,
            },
        )
        results = {"pretrain": {"steps": 3}, "finetune": to_json(trained), "evaluation": {}}
        for hour, (stage, result) in enumerate(results.items(), start=3):
            made = {"done": f"2026-01-02T0{hour}:04:05+00:00", "git_revision": "0123abc-dirty", "version": "0.1.0"}
            if stage != "pretrain" or encoder == "pretrain":
                write_json(run / stage / "done.json", {**result, "made": made})
        record_command(
            run,
            Command(
                began="2026-01-02T03:04:05+00:00",
                command=["train", *flags],
                stages=["finetune", "evaluate"],
                title=given.get("title", ""),
                version="0.1.0",
                python="3.11.0",
                packages={},
                git_revision="0123abc-dirty",
                host="",
                devices=[],
                dataset=data,
                paper_column=given.get("paper_column", ""),
            ),
        )
        return run

    return make
