"""The split by patient: no patient in two splits, whatever the table; proportions where there are enough of them."""

from collections.abc import Collection

import numpy as np
import pandas as pd
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_ecg_mae.cohort.split import assign_splits
from keras_ecg_mae.config import SPLITS

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


@settings(max_examples=25)
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
