"""Who is in a cohort, and the table that is split before a recording is opened."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keras_ecg_mae.cohort.description import Distribution, describe, pooled
from keras_ecg_mae.config import Cohort
from keras_ecg_mae.dataset import read_cohort, split_table
from keras_ecg_mae.errors import ConfigError, DatasetError

ROWS = pd.DataFrame(
    {
        "patient_id": ["p", "p", "q", "r", "s"],
        "institution": ["a", "a", "a", "a", "b"],
        "split": ["train", "train", "train", "train", "test"],
        "label": [1.0, 0.0, 1.0, np.nan, 0.0],
        "age": [50.0, 51.0, 60.0, np.nan, 40.0],
        "lvef": [30.0, 55.0, np.nan, np.nan, 60.0],
        "sex": ["F", "F", "male", "", "F"],
    }
)


def test_a_patient_of_two_institutions_counts_once_and_externals_not_at_all() -> None:
    again = ROWS.iloc[[0]].assign(institution="c")
    rows = pd.concat([ROWS, again])
    assert describe(rows, "lvsd", ("b",)).patients == {"train": 3}
    assert describe(rows, "lvsd", ()).patients == {"train": 3, "test": 1}


def test_by_eye() -> None:
    described = describe(ROWS, "lvsd", ("b",))
    train = next(count for count in described.counts if count.split == "train")
    assert (train.patients, train.positive, train.negative, train.unlabelled) == (3, 2, 1, 1)
    positive, negative, unlabelled, other = described.characteristics
    assert [part.label for part in (positive, negative, unlabelled)] == ["positive", "negative", "unlabelled"]
    assert (positive.recordings, positive.patients) == (2, 2)
    assert positive.age == Distribution(2, 55.0, np.sqrt(50))
    assert positive.lvef == Distribution(1, 30.0, None)
    assert positive.sex == {"F": 1, "male": 1}  # the table's own words
    assert unlabelled.age == Distribution(0, None, None)
    assert unlabelled.sex == {"": 1}
    assert (other.institution, other.split, other.label) == ("b", "test", "negative")
    assert described.count("train", labelled=True) == 3
    assert described.institutions == ("a", "b")


@pytest.fixture
def cohort(tmp_path: Path) -> Cohort:
    """A table of recordings that are not there."""
    rows = [f"r{n}.hea,p{n // 2},{'ab'[n % 4 == 3]},{30 + n % 40},{40 + n % 30},F" for n in range(200)]
    (tmp_path / "table.csv").write_text("path,patient_id,institution,lvef,age,sex\n" + "\n".join(rows) + "\n")
    return Cohort(labels=str(tmp_path / "table.csv"), output=str(tmp_path / "dataset"), table_only=True)


def test_a_description_of_other_fields_is_refused(cohort: Cohort) -> None:
    split_table(cohort)
    path = Path(cohort.output) / "cohort.json"
    content = json.loads(path.read_text())
    del content["characteristics"][0]["age"]
    path.write_text(json.dumps(content))
    with pytest.raises(DatasetError, match=r"cohort.json: Expected the description of a cohort. Received other"):
        read_cohort(cohort.output)


def test_without_a_table_nothing_is_split(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"Expected --labels to be given"):
        split_table(Cohort(output=str(tmp_path), table_only=True))


@given(st.lists(st.lists(st.floats(0, 120), max_size=6), max_size=5))
def test_pooled_is_what_the_values_give_together(groups: list[list[float]]) -> None:
    parts = [
        Distribution(
            len(values),
            float(np.mean(values)) if values else None,
            float(np.std(values, ddof=1)) if len(values) > 1 else None,
        )
        for values in groups
    ]
    together = [value for values in groups for value in values]
    whole = pooled(parts)
    assert whole.known == len(together)
    assert whole.mean == (pytest.approx(np.mean(together)) if together else None)
    assert whole.deviation == (pytest.approx(np.std(together, ddof=1), abs=1e-6) if len(together) > 1 else None)
