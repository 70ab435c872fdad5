"""A run's classifier, held against a dataset's labels."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from keras_ecg_mae.config import SPLITS, Config
from keras_ecg_mae.dataset import Manifest, evaluation_batches
from keras_ecg_mae.errors import RunError
from keras_ecg_mae.evaluation.evaluate import RESULTS, evaluate, read_results
from keras_ecg_mae.evaluation.predictions import KEPT_COLUMNS
from keras_ecg_mae.evaluation.scoring import Results
from keras_ecg_mae.files import local_copy
from keras_ecg_mae.models.classifier import Classifier
from keras_ecg_mae.models.cnn import CnnClassifier
from keras_ecg_mae.runs.fingerprint import expect_made_from, stage_folder
from keras_ecg_mae.runs.record import Dataset
from keras_ecg_mae.runs.training_data import TrainingData, describe_label, expect_training_data, read_patients
from keras_ecg_mae.training.finetune import CLASSIFIER


def load_classifier(config: Config) -> Classifier | CnnClassifier:
    """The run's fine-tuned classifier. Raises `RunError` where there is none."""
    path = stage_folder("finetune", config) / CLASSIFIER
    if not path.is_file():
        raise RunError(
            f"{path}: Expected a fine-tuned classifier. Received no such file: run the stage finetune first."
        )
    with local_copy(path) as file:
        return keras.models.load_model(file, compile=False)


def own_results(config: Config) -> Results:
    """Those of the stage `evaluate`. Raises `RunError` where it is not done, or was done with another classifier."""
    folder = stage_folder("evaluate", config)
    if not (folder / RESULTS).is_file():
        raise RunError(
            f"{folder / RESULTS}: Expected the results of the run's own evaluation. Received no such file: "
            f"run python -m keras_ecg_mae.evaluate --run={config.training.run} first."
        )
    expect_made_from(folder, stage_folder("finetune", config))
    return read_results(folder)


def evaluate_model(
    classifier: Classifier | CnnClassifier, config: Config, manifest: Manifest, folder: Path, threshold: float | None
) -> Results:
    """As `evaluate_predictions`, with those of a classifier."""
    predict = tf.function(classifier.probability, reduce_retracing=True)
    return evaluate_predictions(lambda ecg: np.asarray(predict(tf.constant(ecg))), config, manifest, folder, threshold)


def evaluate_predictions(
    predict: Callable[[np.ndarray], np.ndarray],
    config: Config,
    manifest: Manifest,
    folder: Path,
    threshold: float | None,
) -> Results:
    """Predicts the labelled ECGs that fine-tuning has not learnt from, and leaves what comes of it in `folder`.

    On the run's own dataset these are its test ECGs, beside the validation ECGs that fine-tuning was allowed. On
    another one they are all labelled ECGs, whichever their split, but for those of patients whom fine-tuning has learnt
    from. An institution is external where fine-tuning could learn from none of its ECGs. Where the patients of the two
    datasets cannot all be compared, of an internal institution its split test alone is taken.

    Args:
        predict: `(batch, 12, 5000)` mV -> probabilities `(batch,)`.
        threshold: from which a probability is positive; None chooses it on the validation ECGs.

    Raises:
        RunError: the dataset has another label than the run was fine-tuned for.
    """
    finetuning = stage_folder("finetune", config)
    trained, patients = expect_training_data(finetuning, "finetune"), read_patients(finetuning)
    _expect_label(trained, manifest)
    notes = _notes(trained, manifest)
    digest = manifest.digest
    own = digest == trained.dataset.sha256
    seen = _fine_tuned_on(manifest) if own else trained.recordings.keys()
    internal = sorted(name for name in manifest.institutions if name in seen)
    external, splits = [name for name in manifest.institutions if name not in internal], list(SPLITS[1:])
    same_secret = own or manifest.patient_keys == trained.patient_keys != ""
    if not own:
        splits = list(SPLITS)
        if internal:
            notes.append(f"Taken for the run's own institutions, by their names: {', '.join(internal)}.")
        if unknown := _unknown_patients(trained, manifest):
            shards = [shard for shard in manifest.shards if shard.split == "test" or shard.institution in external]
            manifest = replace(manifest, shards=tuple(shards))
            among = f" They may be among the test ECGs of {', '.join(internal)}." if internal else ""
            notes.append(f"Patients whom fine-tuning has learnt from could not all be left out: {unknown}{among}")
    batches = evaluation_batches(
        manifest, splits, batch_size=config.evaluation.evaluate_batch_size, labelled=True, columns=KEPT_COLUMNS
    ).as_numpy_iterator()
    return evaluate(
        predict,
        batches if own else _as_test(batches),
        folder,
        external_institutions=external,
        label_name=trained.label_name,
        confidence=config.evaluation.confidence,
        threshold=threshold,
        threshold_rule=config.evaluation.threshold_rule,
        trained_patients=patients if same_secret else None,
        run=trained.run,
        dataset=Dataset(manifest.folder, digest, manifest.count()),
        notes=notes,
    )


def _fine_tuned_on(manifest: Manifest) -> set[str]:
    """Institutions of a run's own dataset that fine-tuning may learn from, with whichever share of the labels."""
    return {
        shard.institution
        for shard in manifest.shards
        if shard.split != "test" and shard.labelled and shard.institution not in manifest.external_institutions
    }


def _unknown_patients(trained: TrainingData, manifest: Manifest) -> str:
    """Why patients of another dataset may be the run's without having their keys; empty where they cannot."""
    if not manifest.patient_keys == trained.patient_keys != "":
        return (
            f"the patient keys of this dataset were made with another secret than those of {trained.dataset.folder}. "
            f"Prepare it with --patient_key_file={trained.dataset.folder.rstrip('/')}.key."
        )
    nameless = (
        (trained.dataset.folder, trained.without_patient_id),
        (manifest.folder, manifest.table.get("without_patient_id", 0)),
    )
    named = " and ".join(f"{count:,} of {folder}" for folder, count in nameless if count)
    return f"recordings do not name their patient, {named}." if named else ""


def _as_test(batches: Iterator[dict[str, np.ndarray]]) -> Iterator[dict[str, np.ndarray]]:
    """The split of another dataset says nothing about this run."""
    return ({**batch, "split": np.full(len(batch["label"]), "test")} for batch in batches)


def _expect_label(trained: TrainingData, manifest: Manifest) -> None:
    """Raises `RunError` where a dataset has another label. One that is alike by name may not tell its threshold."""
    thresholds = {trained.lvef_threshold, manifest.lvef_threshold} - {None}
    if manifest.label_name != trained.label_name or len(thresholds) > 1:
        raise RunError(
            f"{manifest.path}: Expected a dataset with the label of the run {trained.run}, {trained.label}. Received "
            f"one with {describe_label(manifest.label_name, manifest.lvef_threshold)}."
        )


def _notes(trained: TrainingData, manifest: Manifest) -> list[str]:
    """What a reader of these results has to know of what the weights have seen before fine-tuning."""
    notes = []
    if trained.lvef_threshold != manifest.lvef_threshold:
        notes.append(
            f"The run was fine-tuned for {trained.label}; the dataset says "
            f"{describe_label(manifest.label_name, manifest.lvef_threshold)}."
        )
    while trained.before is not None:
        trained = trained.before
        seen = {name: trained.recordings[name] for name in manifest.institutions if name in trained.recordings}
        if trained.dataset.sha256 == manifest.digest:
            seen = {name: {"test": splits["test"]} for name, splits in seen.items() if "test" in splits}
        if seen:
            notes.append(replace(trained, recordings=seen).sentence())
    if trained.initial_weights:
        notes.append(trained.unknown_weights())
    return notes
