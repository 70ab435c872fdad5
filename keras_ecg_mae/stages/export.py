"""The stage `export`: a run's model becomes a version to serve, where the gate lets it."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from keras_ecg_mae.config import SPLITS, Config
from keras_ecg_mae.dataset import Manifest, evaluation_batches
from keras_ecg_mae.errors import RunError
from keras_ecg_mae.evaluation.scoring import Results
from keras_ecg_mae.files import storage_path
from keras_ecg_mae.models.build import in_precision
from keras_ecg_mae.models.classifier import Classifier
from keras_ecg_mae.models.cnn import CnnClassifier
from keras_ecg_mae.runs.fingerprint import stage_folder
from keras_ecg_mae.runs.folder import mark_done, read_done
from keras_ecg_mae.runs.training_data import AUTOENCODER, describe_label, expect_training_data
from keras_ecg_mae.serving.exported_model import ExportedModel
from keras_ecg_mae.serving.gate import expect_same_model, gate_refusals, incumbent_version
from keras_ecg_mae.serving.model_json import Decision, provenance_of, read_description
from keras_ecg_mae.serving.saved_model import export_autoencoder, export_classifier
from keras_ecg_mae.serving.versions import newest_version
from keras_ecg_mae.stages.evaluation import evaluate_model, evaluate_predictions, load_classifier, own_results
from keras_ecg_mae.training.finetune import load_autoencoder

_COMPARED_RECORDINGS = 8


def export_model(config: Config, manifest: Manifest, folder: Path) -> dict[str, Any]:
    """Exports the run's classifier or autoencoder, and marks the stage done in `folder`.

    Label, cohort and limits are those of `manifest`, which must be the dataset that the run was trained on.

    Raises:
        RunError: the gate refuses the classifier, a stage before is missing, the version before is of another model, or
            the export differs from the run's model.
    """
    settings = config.export
    saved_models = storage_path(settings.saved_models) / settings.name
    newest = newest_version(saved_models)
    if newest is not None:
        label = describe_label(manifest.label_name, manifest.lvef_threshold)
        expect_same_model(newest, read_description(newest), settings.exported, label)
    if settings.exported == "autoencoder":
        version = _export_autoencoder(config, manifest, saved_models)
    else:
        version = _export_classifier(config, manifest, saved_models)
    done = {"saved_model": str(version)}
    mark_done(folder, done)
    return done


def _export_classifier(config: Config, manifest: Manifest, saved_models: Path) -> Path:
    finetuning = stage_folder("finetune", config)
    classifier, results = _to_serve(config, manifest)
    groups = [asdict(group) for group in results.groups]
    refused = refusals(groups, config, manifest, saved_models)
    if refused and not config.export.export_despite_gate:
        raise RunError(
            f"{saved_models}: Expected a classifier to serve. Received one that the gate refuses: {' '.join(refused)} "
            "--export_despite_gate exports it all the same."
        )
    return export_classifier(
        classifier,
        saved_models,
        decision=Decision(
            label=results.label_name,
            threshold=results.threshold,
            threshold_rule=results.threshold_rule,
            confidence=results.confidence,
            evaluation=groups,
            refused=refused,
            lvef_threshold=manifest.lvef_threshold,
        ),
        provenance=provenance_of(expect_training_data(finetuning, "finetune"), finetuning, manifest),
        batch_sizes=config.export.export_batch_sizes,
        ecg_mv=_ecgs_to_compare(manifest, labelled=True),
    )


def _to_serve(config: Config, manifest: Manifest) -> tuple[Classifier | CnnClassifier, Results]:
    """The run's classifier as it will be served, and what that one does on the test ECGs."""
    results = own_results(config)
    classifier = load_classifier(config)
    if config.export.export_precision == "float32":
        return classifier, results
    classifier = in_precision(classifier, config.export.export_precision)
    with TemporaryDirectory() as scratch:
        served = evaluate_model(classifier, config, manifest, Path(scratch), results.threshold)
    return classifier, replace(served, threshold_rule=results.threshold_rule)


def _export_autoencoder(config: Config, manifest: Manifest, saved_models: Path) -> Path:
    folder = stage_folder("pretrain", config)
    done = read_done(folder)
    if done is None:
        raise RunError(f"{folder}: Expected a pretrained autoencoder. Received none: run the stage pretrain first.")
    return export_autoencoder(
        load_autoencoder(folder / AUTOENCODER),
        saved_models,
        provenance=provenance_of(expect_training_data(folder, "pretrain"), folder, manifest),
        validation={name: value for name, value in done.items() if name.startswith("validat")},
        batch_sizes=config.export.export_batch_sizes,
        ecg_mv=_ecgs_to_compare(manifest, labelled=False),
    )


def _ecgs_to_compare(manifest: Manifest, *, labelled: bool) -> np.ndarray:
    """Some of the dataset's recordings, tested ones first: `(recordings, 12, 5000)` mV."""
    batches = evaluation_batches(manifest, SPLITS[::-1], batch_size=_COMPARED_RECORDINGS, labelled=labelled)
    return next(iter(batches))["ecg"].numpy()


class _NotComparableError(Exception):
    """The version before does not answer for every test ECG."""


def refusals(groups: Sequence[Mapping[str, Any]], config: Config, manifest: Manifest, saved_models: Path) -> list[str]:
    """Why the gate refuses a classifier, by its accuracy on the test ECGs of `manifest`; empty where it does not.

    The incumbent is measured by what it says of itself; where it was tested on another dataset, it is evaluated anew.
    Then its training patients may be among these ECGs. That can only make it look better, so a refusal says so.
    """
    by_bounds = gate_refusals(groups, config.export)
    incumbent = incumbent_version(saved_models)
    if incumbent is None:
        return by_bounds
    version, described, decision = incumbent
    if described.dataset == manifest.digest:
        return gate_refusals(groups, config.export, decision.evaluation)
    try:
        theirs = _evaluate_anew(version, described.max_flat_leads, decision.threshold, config, manifest)
    except _NotComparableError as error:
        return [*by_bounds, str(error)]
    refused = gate_refusals(groups, config.export, theirs)
    if refused != by_bounds:
        refused.append(
            f"{version} was trained on another dataset: it may have learnt from patients among these test ECGs, and do "
            "better on them than on new patients."
        )
    return refused


def _evaluate_anew(
    version: Path, max_flat_leads: int, threshold: float, config: Config, manifest: Manifest
) -> list[dict[str, Any]]:
    model = ExportedModel(version)

    def predict(ecg_mv: np.ndarray) -> np.ndarray:
        answer = model.classify(ecg_mv)
        if not answer.input_ok.all():
            raise _NotComparableError(
                f"Expected {version}, which must not be better, to answer for every test ECG. Received none for some, "
                f"such as those of more than {max_flat_leads} flat leads."
            )
        return answer.probability

    with TemporaryDirectory() as scratch:
        results = evaluate_predictions(predict, config, manifest, Path(scratch), threshold)
    return [asdict(group) for group in results.groups]
