"""The paper's numbers (`pipelines/paper/`) against their own sums."""

from pathlib import Path

import pandas as pd
import pytest

FOLDER = Path(__file__).parent.parent / "pipelines" / "paper"
SPLITS = ("train", "validation", "test")


def table(number: int) -> pd.DataFrame:
    return pd.read_csv(FOLDER / f"table_{number}.csv", index_col=0)


@pytest.mark.parametrize("number", [1, 2])
def test_cohort_tables_add_up(number: int) -> None:
    counts = table(number)
    assert (counts["case"] + counts["control"] == counts["over_all"]).all()
    assert (counts.iloc[:-1].sum() == counts.loc["over_all"]).all()


@pytest.mark.parametrize(("number", "institutions"), [(1, 1), (2, 3)])
def test_the_training_institutions_of_table_4_make_tables_1_and_2(number: int, institutions: int) -> None:
    members = [f"institution_{place + 1}" for place in range(institutions)]
    by_split = table(4).loc[members].groupby("split")[["case", "control"]].sum().loc[list(SPLITS)]
    assert (by_split.to_numpy() == table(number)[["case", "control"]].iloc[:-1].to_numpy()).all()


def test_external_institutions_have_more_controls_than_cases() -> None:
    external = table(4).loc["institution_4":]
    assert list(external["split"].unique()) == ["test"]
    assert (external["case"] < external["control"]).all()


def test_the_numbers_of_labels_the_paper_names() -> None:
    """Section 3: 31,816 labels of Train1 and 107,571 of Train2."""
    assert table(1)["over_all"].iloc[:2].sum() == 31_816
    assert table(2)["over_all"].iloc[:2].sum() == 107_571


def test_every_column_of_table_3_has_a_flag_file() -> None:
    columns = table(3).columns
    assert list(columns) == ["ds1_cnn", "ds1", "ds1_mae_ds2", "ds2_cnn", "ds2_imagenet", "ds2_mae_ds1", "ds2"]
    assert all((FOLDER.parent / f"{name}.flags").is_file() for name in columns)
