"""Fixtures that every room's tests share."""

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

if TYPE_CHECKING:
    from keras_ecg_mae.config import Config
    from keras_ecg_mae.dataset import Manifest

# No deadline: the first call of a TensorFlow function compiles it. Derandomised: the same examples on every machine.
settings.register_profile("repository", deadline=None, derandomize=True, max_examples=50)
settings.load_profile("repository")

REPOSITORY = Path(__file__).resolve().parent.parent


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
    from keras_ecg_mae.recordings.simulated_cohort import write_simulated_cohort

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
        export=Export(saved_models=str(tmp_path / "saved_models"), name="test"),
    )
