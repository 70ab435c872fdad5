"""The patient-level split into training, validation and test."""

import hashlib
from collections.abc import Collection, Iterable

import pandas as pd
from absl import logging

from keras_ecg_mae.config import SPLITS

TRAIN, VALIDATION, TEST = SPLITS


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
        rows: the columns `patient_id`, `institution` and `label` (0, 1 or NaN) of `cohort.Table.rows`.
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
    sizes = ordered[["positive", "negative", "unlabelled"]].sum(axis=1)
    fractions = (train_fraction, validation_fraction, 1 - train_fraction - validation_fraction)
    dealt = pd.Series(TEST, ordered.index, dtype=object)
    # Each institution by itself, and also those whom an external one saw, who are then tested on: so where a patient
    # goes does not depend on which other institutions are external.
    for _, institution in ordered.groupby("institution", sort=False):
        dealt[institution.index] = _deal(sizes[institution.index].tolist(), fractions)
    dealt[ordered.index[ordered["external"]]] = TEST
    return rows["patient_id"].map(dealt).rename("split")


def _patients(rows: pd.DataFrame, external_institutions: Collection[str]) -> pd.DataFrame:
    """One row a patient: institution, whether external, and how many recordings of each label."""
    counts = (
        rows.assign(
            external=rows["institution"].isin(list(external_institutions)),
            positive=rows["label"] == 1,
            negative=rows["label"] == 0,
            unlabelled=rows["label"].isna(),
        )
        .groupby(["patient_id", "institution"], as_index=False)[["external", "positive", "negative", "unlabelled"]]
        .sum()
    )
    counts["recordings"] = counts[["positive", "negative", "unlabelled"]].sum(axis=1)
    main = counts.sort_values(["recordings", "institution"], ascending=[False, True]).drop_duplicates("patient_id")
    patients = counts.groupby("patient_id")[["external", "recordings", "positive", "negative", "unlabelled"]].sum()
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
