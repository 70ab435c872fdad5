"""The patient-level split into training, validation and test: at random, or as the table gives it."""

import hashlib
import re
from collections.abc import Collection, Iterable

import pandas as pd
from absl import logging

from keras_ecg_mae.cohort.columns import TableColumns
from keras_ecg_mae.config import SPLITS
from keras_ecg_mae.errors import DatasetError

TRAIN, VALIDATION, TEST = SPLITS
_WORDS = {
    **dict.fromkeys(("train", "training"), TRAIN),
    **dict.fromkeys(("validation", "valid", "val", "validate", "dev"), VALIDATION),
    **dict.fromkeys(("test", "testing"), TEST),
}
_WHOLE_NUMBER = re.compile(r"(\d+)\.0+", re.ASCII)


def hashed_order(names: Iterable[str], seed: int) -> list[bytes]:
    """A sort key a name: an order that looks random, depends on the seed, and not on how the names came."""
    key = str(seed).encode()
    return [hashlib.blake2b(name.encode(), digest_size=16, key=key).digest() for name in names]


def assign_splits(
    rows: pd.DataFrame,
    *,
    external_institutions: Collection[str],
    train_fraction: float,
    validation_fraction: float,
    seed: int,
) -> pd.Series:
    """The split of each recording: `"train"`, `"validation"` or `"test"`.

    As in Sawano et al., 2.1, no patient is in two splits, and the external institutions are tested on only. The paper
    gives no fractions and does not say that it stratified. Here each institution and each kind of patient (any positive
    recording, negative ones only, none labelled) is divided in the given proportions, counted in recordings; a patient
    of several institutions counts for the one with most of their recordings.

    All recordings of a patient go together, so a patient seen by an external institution is tested on everywhere.
    Another dataset of the same table deals an internal institution's patients alike, whichever other institutions are
    external, but for those patients: one who is tested on here may be trained on where that institution is internal.

    Args:
        rows: the columns `patient_id`, `institution` and `label` (0, 1 or NaN) of `read.Table.rows`.
        external_institutions: institutions whose patients are all tested on.
        train_fraction: share of recordings to train on.
        validation_fraction: share to validate on; the rest is tested on.
        seed: of the split; with the same seed it does not depend on the order of the rows.
    """
    patients = _patients(rows, external_institutions)
    patients["order"] = hashed_order(patients.index, seed)
    ordered = patients.sort_values(
        # Patients alike follow one another, so that each kind is dealt out in the proportions.
        ["institution", "positive", "negative", "unlabelled", "order"],
        ascending=[True, False, False, False, True],
    )
    fractions = (train_fraction, validation_fraction, 1 - train_fraction - validation_fraction)
    dealt = pd.Series(TEST, ordered.index, dtype=object)
    # Each institution by itself, and also those whom an external one saw, who are then tested on: so where a patient
    # goes does not depend on which other institutions are external.
    for _, institution in ordered.groupby("institution", sort=False):
        dealt[institution.index] = _deal(institution["recordings"].tolist(), fractions)
    dealt[ordered.index[ordered["external"]]] = TEST
    return rows["patient_id"].map(dealt).rename("split")


def _patients(rows: pd.DataFrame, external_institutions: Collection[str]) -> pd.DataFrame:
    """One row a patient: institution, whether external, and how many recordings, also of each label."""
    counted = ["external", "recordings", "positive", "negative", "unlabelled"]
    counts = (
        rows.assign(
            external=rows["institution"].isin(list(external_institutions)),
            recordings=1,
            positive=rows["label"] == 1,
            negative=rows["label"] == 0,
            unlabelled=rows["label"].isna(),
        )
        .groupby(["patient_id", "institution"], as_index=False)[counted]
        .sum()
    )
    main = counts.sort_values(["recordings", "institution"], ascending=[False, True]).drop_duplicates("patient_id")
    patients = counts.groupby("patient_id")[counted].sum()
    patients["institution"] = main.set_index("patient_id")["institution"]
    shared = ((patients["external"] > 0) & (patients["external"] < patients["recordings"])).sum()
    if shared:
        logging.warning(
            "%d patient ids occur in external and in other institutions: all their recordings are tested on. Where "
            "they are different people, make the ids differ (with the institution in front).",
            shared,
        )
    patients["external"] = patients["external"] > 0
    return patients


def _deal(sizes: list[int], fractions: tuple[float, float, float]) -> list[str]:
    """Deals patients out in their order, each to the split that lags its share of the recordings so far the most.

    So at every point of the order a split has its share to within about one patient.
    """
    lags = [0.0, 0.0, 0.0]
    dealt = []
    for size in sizes:
        lags = [lag + fraction * size for lag, fraction in zip(lags, fractions, strict=True)]
        chosen = max(range(3), key=lags.__getitem__)
        lags[chosen] -= size
        dealt.append(SPLITS[chosen])
    return dealt


def read_given_split(columns: TableColumns, institution: pd.Series) -> pd.Series:
    """The split of each row by `--split_column`; rows whose value `--split_values` leaves out are left out.

    ECGs of external institutions are tested on, whatever the table says of them: in Sawano et al. institutions 2 and 3
    are divided in dataset 2, and in dataset 1 tested on as a whole.

    Args:
        columns: the table.
        institution: of each row.

    Raises:
        DatasetError: there is no such column, or it holds a value that is not known.
    """
    cohort = columns.cohort
    meant = {**_WORDS, **{_plain(value): split for value, split in cohort.split_meanings.items()}}
    text = columns.required("split_column")
    split = text.map(_plain).map(meant)
    unknown = text[split.isna()]
    if len(unknown):
        value = unknown.iloc[0]
        raise DatasetError(
            f'{cohort.labels}, row {unknown.index[0]}, column "{cohort.split_column}" (--split_column): Expected '
            f"train, validation or test. Received {value!r}, and as little is known of {len(unknown):,} of "
            f"{len(text):,} rows: say what it means with --split_values={value}:train, or :validation, :test or :none."
        )
    problem = "Expected a split to be used in. Received one that --split_values leaves out (none)."
    columns.leave_out(~split.isin(SPLITS), "split_column", "split", problem)
    external = institution.isin(cohort.external_institutions)
    problem = "Expected the ECGs of an external institution to be tested on. Received another split."
    columns.list_rows(external & split.isin([TRAIN, VALIDATION]), "split_column", problem, "tested on")
    return split[split.isin(SPLITS)].mask(external, TEST)


def leave_out_second_splits(columns: TableColumns, rows: pd.DataFrame) -> pd.DataFrame:
    """The rows without those by which a patient would be in two splits.

    With `--split_patients=reject` the last of training, validation and test keeps its recordings, so that a published
    test set stays what it is.

    Args:
        columns: the table.
        rows: the columns `patient_id` and `split` of `read.Table.rows`.

    Raises:
        DatasetError: a patient is in two splits, and the setting is `refuse`.
    """
    cohort = columns.cohort
    place = rows["split"].map(SPLITS.index)
    is_earlier = place < place.groupby(rows["patient_id"]).transform("max")
    if is_earlier.any() and cohort.split_patients == "refuse":
        patients = rows.loc[is_earlier, "patient_id"].nunique()
        raise DatasetError(
            f'{cohort.labels}, row {is_earlier.idxmax()}, column "{cohort.split_column}" (--split_column): Expected '
            f"each patient in one split. Received {patients:,} in several, this row's the first: what is trained on "
            "would be tested on. --split_patients=reject leaves out their recordings of the earlier split."
        )
    problem = "Expected each patient in one split. Received this one in a later split as well (test is the last)."
    columns.leave_out(is_earlier, "split_column", "split", problem)
    return rows[~is_earlier]


def _plain(value: str) -> str:
    """A value without what does not count in it: case, and `.0` behind a whole number."""
    return _WHOLE_NUMBER.sub(r"\1", value.casefold())
