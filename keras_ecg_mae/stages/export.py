"""The stage `export`: a run's model becomes a version to serve, where the gate lets it."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from keras_ecg_mae.config import Config
from keras_ecg_mae.dataset import Manifest
from keras_ecg_mae.errors import RunError
from keras_ecg_mae.evaluation.evaluate import read_results
from keras_ecg_mae.evaluation.scoring import Results
from keras_ecg_mae.models.build import in_precision
from keras_ecg_mae.models.classifier import Classifier
from keras_ecg_mae.models.cnn import CnnClassifier
from keras_ecg_mae.run_folder import mark_done, read_done
from keras_ecg_mae.serving.description import Decision, Description, read_description
from keras_ecg_mae.serving.export import export_autoencoder, export_classifier
from keras_ecg_mae.serving.gate import expect_same_model, gate_refusals
from keras_ecg_mae.serving.origin import ecgs_to_compare, origin_of
from keras_ecg_mae.serving.prediction import ExportedModel
from keras_ecg_mae.serving.versions import newest_version
from keras_ecg_mae.stages.evaluation import evaluate_model, evaluate_predictions, load_classifier
from keras_ecg_mae.stages.settings import FOLDERS
from keras_ecg_mae.storage import storage_path
from keras_ecg_mae.training.finetune import load_autoencoder
from keras_ecg_mae.training.pretrain import AUTOENCODER


def export_model(config: Config, manifest: Manifest, folder: Path) -> dict[str, Any]:
    """Exports the run's classifier or autoencoder, and marks the stage done in `folder`.

    Raises:
        RunError: the gate refuses the classifier, a stage before is missing, the version before is of another model, or
            the export differs from the run's model.
    """
    settings = config.export
    saved_models = storage_path(settings.saved_models) / settings.name
    incumbent = newest_version(saved_models)
    described = None if incumbent is None else read_description(incumbent)
    if incumbent is not None and described is not None:
        expect_same_model(incumbent, described, settings.exported, manifest.label_name)
    if settings.exported == "autoencoder":
        version = _export_autoencoder(config, manifest, saved_models)
    else:
        version = _export_classifier(config, manifest, saved_models, incumbent, described)
    done = {"saved_model": str(version)}
    mark_done(folder, done)
    return done


def _export_classifier(
    config: Config, manifest: Manifest, saved_models: Path, incumbent: Path | None, described: Description | None
) -> Path:
    run = storage_path(config.training.run)
    classifier, results = _to_serve(config, manifest)
    groups = [asdict(group) for group in results.groups]
    before = _incumbent_groups(config, manifest, incumbent, described) if incumbent and described else []
    refused = gate_refusals(groups, config.export, before)
    if refused and not config.export.export_despite_gate:
        raise RunError(
            f"{saved_models}: Expected a classifier to serve. Received one that the gate refuses: {' '.join(refused)} "
            "--export_despite_gate exports it all the same."
        )
    return export_classifier(
        classifier,
        saved_models,
        decision=Decision(
            label=manifest.label_name,
            threshold=results.threshold,
            threshold_rule=results.threshold_rule,
            confidence=results.confidence,
            evaluation=groups,
            refused=refused,
        ),
        origin=origin_of(config.training.run, run / FOLDERS["finetune"], manifest),
        batch_sizes=config.export.export_batch_sizes,
        ecg_mv=ecgs_to_compare(manifest, labelled=True),
    )


def _to_serve(config: Config, manifest: Manifest) -> tuple[Classifier | CnnClassifier, Results]:
    """The run's classifier as it will be served, and what that one does on the test ECGs."""
    classifier = load_classifier(config)
    results = read_results(storage_path(config.training.run) / FOLDERS["evaluate"])
    if config.export.export_precision == "float32":
        return classifier, results
    classifier = in_precision(classifier, config.export.export_precision)
    with TemporaryDirectory() as scratch:
        served = evaluate_model(classifier, config, manifest, Path(scratch), results.threshold)
    return classifier, replace(served, threshold_rule=results.threshold_rule)


def _export_autoencoder(config: Config, manifest: Manifest, saved_models: Path) -> Path:
    folder = storage_path(config.training.run) / FOLDERS["pretrain"]
    done = read_done(folder)
    if done is None:
        raise RunError(f"{folder}: Expected a pretrained autoencoder. Received none: run the stage pretrain first.")
    return export_autoencoder(
        load_autoencoder(folder / AUTOENCODER),
        saved_models,
        origin=origin_of(config.training.run, folder, manifest),
        validation={name: value for name, value in done.items() if name.startswith("validation_")},
        batch_sizes=config.export.export_batch_sizes,
        ecg_mv=ecgs_to_compare(manifest, labelled=False),
    )


def _incumbent_groups(
    config: Config, manifest: Manifest, incumbent: Path, described: Description
) -> Sequence[Mapping[str, Any]]:
    """What the version served so far does on this dataset's test ECGs: as it says, or where it was tested on others,
    evaluated anew."""
    if described.decision is None:
        return []
    if described.dataset == manifest.digest:
        return described.decision.evaluation
    with TemporaryDirectory() as scratch:
        predict, threshold = ExportedModel(incumbent).probability, described.decision.threshold
        results = evaluate_predictions(predict, config, manifest, Path(scratch), threshold)
    return [asdict(group) for group in results.groups]
