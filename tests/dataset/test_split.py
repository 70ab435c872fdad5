"""The split by patient: no patient in two splits, whatever the table; proportions where there are enough of them."""

import time
from collections.abc import Collection
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_ecg_mae.dataset.split import SPLITS, assign_splits

COHORTS = st.lists(
    st.tuples(st.integers(0, 12), st.sampled_from(["a", "b", "c"]), st.sampled_from([0.0, 1.0, np.nan])),
    min_size=1,
    max_size=60,
).map(
    lambda rows: pd.DataFrame(rows, columns=["patient_id", "institution", "label"]).astype(
        {"patient_id": str, "label": float}
    )
)


def split(
    rows: pd.DataFrame, seed: int = 0, external: Collection[str] = ("c",), train: float = 0.7, validation: float = 0.15
) -> pd.Series:
    return assign_splits(
        rows, external_institutions=external, train_fraction=train, validation_fraction=validation, seed=seed
    )


@settings(deadline=None, max_examples=60)
@given(COHORTS, st.integers(0, 2**32))
def test_invariants(rows: pd.DataFrame, seed: int) -> None:
    splits = split(rows, seed)
    assert set(splits) <= set(SPLITS)
    assert (splits.groupby(rows["patient_id"]).nunique() == 1).all()
    assert (splits[rows["institution"] == "c"] == "test").all()
    shuffled = rows.sample(frac=1, random_state=seed % 1000)
    pd.testing.assert_series_equal(split(shuffled, seed).sort_index(), splits)


def test_a_patient_of_an_external_institution_is_tested_on_everywhere() -> None:
    rows = pd.DataFrame(
        {"patient_id": ["p", "p", "q", "q"], "institution": ["a", "c", "a", "a"], "label": [0.0, 0.0, 0.0, 0.0]}
    )
    assert list(split(rows)) == ["test", "test", "train", "train"]


def test_proportions_hold_in_each_institution_and_class() -> None:
    """With one recording a patient, each class of an institution is off by rounding only."""
    generator = np.random.default_rng(0)
    rows = pd.DataFrame(
        {
            "patient_id": [str(number) for number in range(2000)],
            "institution": generator.choice(["a", "b", "d"], 2000, p=[0.7, 0.2, 0.1]),
            "label": generator.choice([0.0, 1.0, np.nan], 2000, p=[0.6, 0.1, 0.3]),
        }
    )
    splits = split(rows)
    for _, group in splits.groupby([rows["institution"], rows["label"].fillna(-1)]):
        for name, fraction in zip(SPLITS, (0.7, 0.15, 0.15), strict=True):
            assert abs((group == name).sum() - fraction * len(group)) < 2


def test_the_seed_matters() -> None:
    rows = pd.DataFrame({"patient_id": [str(i) for i in range(200)], "institution": "a", "label": 0.0})
    assert (split(rows, 0) != split(rows, 1)).any()


def test_no_validation_and_no_test_when_all_is_for_training() -> None:
    rows = pd.DataFrame({"patient_id": [str(i) for i in range(50)], "institution": "a", "label": 0.0})
    assert set(split(rows, train=1.0, validation=0.0)) == {"train"}


@pytest.mark.parametrize(("ecgs", "patients"), [(37_456, 23_154), (126_203, 69_305)])
def test_the_papers_size(ecgs: int, patients: int) -> None:
    """Table 1's counts: within half a percent in proportion and prevalence, and in seconds."""
    generator = np.random.default_rng(0)
    # Every patient once, the rest spread unevenly, as follow-ups are.
    more = generator.choice(patients, ecgs - patients, p=generator.dirichlet(np.full(patients, 0.5)))
    patient = np.concatenate([np.arange(patients), more])
    risk = generator.beta(0.3, 2.0, patients)
    rows = pd.DataFrame(
        {
            "patient_id": patient.astype(str),
            "institution": generator.choice(["1", "2", "3"], patients, p=[0.3, 0.3, 0.4])[patient],
            "label": (generator.random(ecgs) < risk[patient]).astype(float),
        }
    )
    start = time.monotonic()
    splits = split(rows, external=())
    assert time.monotonic() - start < 20
    prevalence = rows["label"].mean()
    for name, fraction in zip(SPLITS, (0.7, 0.15, 0.15), strict=True):
        chosen = splits == name
        assert abs(chosen.mean() - fraction) < 0.001
        assert abs(rows.loc[chosen, "label"].mean() - prevalence) < 0.005
        assert abs(rows.loc[chosen, "patient_id"].nunique() / patients - fraction) < 0.005
    assert (splits.groupby(rows["patient_id"]).nunique() == 1).all()


def test_ptbxl(shared: Path) -> None:
    """PTB-XL's whole label table, split with its recording site as institution."""
    table = pd.read_csv(shared / "data/ptbxl_labels/ptbxl_database.csv", dtype=str)
    rows = pd.DataFrame(
        {
            "patient_id": table["patient_id"],
            "institution": "ptbxl",
            "label": table["scp_codes"].str.contains("'NORM'").astype(float),
        }
    )
    splits = split(rows)
    assert (splits.groupby(rows["patient_id"]).nunique() == 1).all()
    for name, fraction in zip(SPLITS, (0.7, 0.15, 0.15), strict=True):
        assert abs((splits == name).mean() - fraction) < 0.005
        assert abs(rows.loc[splits == name, "label"].mean() - rows["label"].mean()) < 0.005
