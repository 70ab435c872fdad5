"""Which ECGs a run is evaluated on, under which role and label: by what it was trained on, whatever a dataset says."""

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from keras_ecg_mae.config import Config
from keras_ecg_mae.dataset import Manifest, evaluation_batches, labelled_patients, learnt_from
from keras_ecg_mae.errors import RunError
from keras_ecg_mae.evaluation.evaluate import format_results, read_results
from keras_ecg_mae.evaluation.predictions import read_predictions
from keras_ecg_mae.evaluation.scoring import Results
from keras_ecg_mae.files import write_json
from keras_ecg_mae.runs.folder import mark_done, read_done
from keras_ecg_mae.runs.record import Dataset
from keras_ecg_mae.runs.training_data import expect_training_data, read_patients, write_patients
from keras_ecg_mae.stages import evaluate_dataset, own_dataset, run_stage, summary
from keras_ecg_mae.stages.evaluation import evaluate_predictions, own_results
from keras_ecg_mae.training.task import note_training_data

INTERNAL, EXTERNAL = ["institution_1", "institution_2"], ["institution_3"]


def predict(ecg: np.ndarray) -> np.ndarray:
    """`(batch, 12, 5000)` mV -> `(batch,)`: some number of the signal, as a probability."""
    return 1 / (1 + np.exp(-ecg[:, 0].std(axis=1)))


@pytest.fixture
def finetuned(tiny_config: Config, simulated: Manifest) -> Path:
    """The folder of a fine-tuning from random weights that took every label of the splits train and validation."""
    return note_finetuning(tiny_config, simulated)


def note_finetuning(config: Config, manifest: Manifest, encoder: Path | None = None, fraction: float = 1.0) -> Path:
    folder = Path(config.training.run) / "finetune"
    done = note_training_data(
        config,
        manifest,
        folder,
        ("train", "validation"),
        labelled=True,
        initial_weights=encoder,
        label_fraction=fraction,
    )
    mark_done(folder, done)
    return folder


def note_pretraining(config: Config, manifest: Manifest, folder: Path, splits: tuple[str, ...]) -> Path:
    done = note_training_data(config, manifest, folder, splits, labelled=False, initial_weights=None)
    mark_done(folder, {"steps": 3, **done})
    return folder / "autoencoder.keras"


def evaluated(config: Config, manifest: Manifest, folder: Path, threshold: float | None = 0.5) -> Results:
    return evaluate_predictions(predict, config, manifest, folder, threshold)


def labelled(manifest: Manifest, splits: Iterable[str], institutions: Iterable[str]) -> set[str]:
    """The ids of labelled records."""
    return {
        record.decode()
        for batch in evaluation_batches(manifest, list(splits), batch_size=64, labelled=True).as_numpy_iterator()
        for record, institution in zip(batch["record_id"], batch["institution"], strict=True)
        if institution.decode() in institutions
    }


def rows_tested(folder: Path) -> pd.DataFrame:
    table = read_predictions(folder / "predictions.csv")
    return table[table["split"] == "test"]


def roles(results: Results) -> dict[str, str]:
    return {group.name: group.role for group in results.groups if not group.pooled}


def test_another_label_is_refused_with_both_named(
    tiny_config: Config, simulated: Manifest, finetuned: Path, tmp_path: Path
) -> None:
    other = replace(simulated, label_name="female", settings={**simulated.settings, "label_column": "female"})
    with pytest.raises(RunError, match=r"lvsd \(ejection fraction under 40%\). Received one with female\."):
        evaluated(tiny_config, other, tmp_path / "other")
    threshold = replace(simulated, settings={**simulated.settings, "lvef_threshold": 50.0})
    with pytest.raises(RunError, match=r"under 40%\). Received one with lvsd \(ejection fraction under 50%\)"):
        evaluated(tiny_config, threshold, tmp_path / "other")
    assert not (tmp_path / "other").exists()
    # A hospital that says 0 or 1 under the same name is taken at its word, which the results tell.
    column = replace(simulated, settings={**simulated.settings, "label_column": "lvsd"}, external_institutions=())
    assert any("under 40%" in note for note in evaluated(tiny_config, column, tmp_path / "column").notes)


def test_an_institution_is_internal_where_the_run_was_trained_on_it(
    tiny_config: Config, simulated: Manifest, finetuned: Path, tmp_path: Path
) -> None:
    # Another dataset: of the same hospitals, with another external one, and the third dealt into splits.
    shards = [replace(shard, split="train") if shard.institution in EXTERNAL else shard for shard in simulated.shards]
    other = replace(simulated, external_institutions=("institution_1",), shards=tuple(shards))
    results = evaluated(tiny_config, other, tmp_path)
    assert roles(results) == {"institution_1": "internal", "institution_2": "internal", "institution_3": "external"}
    table = rows_tested(tmp_path)
    # Nobody was trained on at the third: all its labelled ECGs are tested on. At the others those not trained on are.
    assert set(table["record_id"]) == labelled(simulated, ["test"], [*INTERNAL, *EXTERNAL])
    assert not set(table["patient_key"]) & read_patients(finetuned)
    by_name, left_out = results.notes
    assert by_name.endswith(": institution_1, institution_2.")
    assert left_out.startswith(f"Left out: {simulated.count('train', labelled=True) + simulated.count('validation')} ")
    assert read_results(tmp_path) == results
    assert f"* {left_out}" in format_results(results)
    assert left_out in (tmp_path / "results.md").read_text()


def test_a_patient_trained_on_is_left_out_at_an_external_institution_too(
    tiny_config: Config, simulated: Manifest, finetuned: Path, tmp_path: Path
) -> None:
    evaluated(tiny_config, simulated, tmp_path / "own")
    patient = rows_tested(tmp_path / "own").query("institution == 'institution_3'")["patient_key"].iloc[0]
    write_patients(finetuned, read_patients(finetuned) | {patient})
    other = replace(simulated, external_institutions=())
    evaluated(tiny_config, other, tmp_path / "other")
    before, after = (set(rows_tested(tmp_path / name)["patient_key"]) for name in ("own", "other"))
    assert before - after == {patient}


def test_patients_of_another_secret_cannot_be_left_out_and_the_results_say_so(
    tiny_config: Config, simulated: Manifest, finetuned: Path, tmp_path: Path
) -> None:
    for secret in ("another", ""):
        results = evaluated(tiny_config, replace(simulated, patient_keys=secret, external_institutions=()), tmp_path)
        assert roles(results)["institution_3"] == "external"
        assert "may be among the test ECGs of institution_1, institution_2." in results.notes[1]
        assert f"--patient_key_file={simulated.folder}.key" in results.notes[1]
        assert set(rows_tested(tmp_path)["record_id"]) == labelled(simulated, ["test"], [*INTERNAL, *EXTERNAL])


def test_the_threshold_is_chosen_on_the_labels_that_fine_tuning_was_allowed(
    tiny_config: Config, simulated: Manifest, tmp_path: Path
) -> None:
    note_finetuning(tiny_config, simulated, fraction=0.5)
    results = evaluated(tiny_config, simulated, tmp_path, None)
    allowed = labelled_patients(simulated, 0.5, tiny_config.training.seed, "validation")
    table = read_predictions(tmp_path / "predictions.csv")
    assert set(table[table["split"] == "validation"]["patient_key"]) == set(allowed.keys)
    assert results.validation.ecgs == allowed.recordings < simulated.count("validation", labelled=True)
    assert f"on {allowed.recordings} validation ECGs" in results.threshold_rule
    assert set(rows_tested(tmp_path)["record_id"]) == labelled(simulated, ["test"], [*INTERNAL, *EXTERNAL])


@pytest.mark.parametrize("splits", [("train",), ("train", "validation", "test")])
def test_it_says_whose_test_ecgs_pretraining_saw(
    tiny_config: Config, simulated: Manifest, tmp_path: Path, splits: tuple[str, ...]
) -> None:
    pretraining = Path(tiny_config.training.run) / "pretrain"
    note_finetuning(tiny_config, simulated, note_pretraining(tiny_config, simulated, pretraining, splits))
    notes = evaluated(tiny_config, simulated, tmp_path).notes
    said = "Pretraining saw, without labels, the test ECGs of institution_1, institution_2 (dataset "
    assert [note.startswith(said) for note in notes] == ([True] if "test" in splits else [])


def test_it_says_what_an_encoder_of_another_run_has_seen(
    tiny_config: Config, simulated: Manifest, tmp_path: Path
) -> None:
    # Another dataset of theirs, of which this run's external institution was no external one.
    shards = [replace(shard, split="train") if shard.institution in EXTERNAL else shard for shard in simulated.shards]
    theirs = replace(simulated, external_institutions=("institution_1",), shards=tuple(shards))
    config = replace(tiny_config, training=replace(tiny_config.training, run="runs/theirs"))
    encoder = note_pretraining(config, theirs, tmp_path / "theirs" / "pretrain", ("train",))
    note_finetuning(tiny_config, simulated, encoder)
    results = evaluated(tiny_config, simulated, tmp_path)
    assert roles(results)["institution_3"] == "external"
    (note,) = results.notes
    assert "without labels, the train ECGs of institution_2, institution_3 (dataset " in note
    assert "run runs/theirs" in note


def test_weights_of_which_nothing_is_known_are_named(tiny_config: Config, simulated: Manifest, tmp_path: Path) -> None:
    note_finetuning(tiny_config, simulated, tmp_path / "weights" / "mae.pth")
    (note,) = evaluated(tiny_config, simulated, tmp_path).notes
    assert "mae.pth" in note
    assert "not known" in note


def test_evaluation_and_export_of_another_dataset_are_refused_with_both_named(
    tiny_config: Config, simulated: Manifest, finetuned: Path
) -> None:
    other = replace(simulated, folder="elsewhere", label_name="female")
    for stage in ("evaluate", "export"):
        with pytest.raises(RunError) as refused:
            run_stage(stage, tiny_config, other)
        for named in (simulated.folder, simulated.digest, "elsewhere/manifest.json", other.digest, "lvsd", "female"):
            assert named in str(refused.value)
    assert not (Path(tiny_config.training.run) / "export").exists()


def test_results_of_a_classifier_that_is_gone_are_not_taken_for_the_new_ones(
    tiny_config: Config, simulated: Manifest, finetuned: Path
) -> None:
    run, other = Path(tiny_config.training.run), replace(simulated, external_institutions=())
    done = {"learning_rate": 0.1, "epoch": 0, "validation_loss": 0.5, "learning_rates": [], "steps": 3}
    mark_done(finetuned, {**(read_done(finetuned) or {}), **done})
    with pytest.raises(RunError, match=r"keras_ecg_mae\.evaluate --run=.*run first"):
        evaluate_dataset(tiny_config, other)
    write_json(run / "evaluation" / "settings.json", {"finetune": read_done(finetuned)})
    results = evaluated(tiny_config, simulated, run / "evaluation")
    mark_done(run / "evaluation", {})
    assert own_results(tiny_config) == results
    assert "AUROC" in summary(tiny_config)
    mark_done(finetuned, {**(read_done(finetuned) or {}), "steps": 4})
    with pytest.raises(RunError, match="finetune was done anew"):
        evaluate_dataset(tiny_config, other)
    with pytest.raises(RunError, match="finetune was done anew"):
        run_stage("export", tiny_config, simulated)
    text = summary(tiny_config)
    assert "AUROC" not in text
    assert "finetune was done anew" in text
    assert "--stages=pretrain,evaluate,export" in text


def test_recordings_that_name_no_patient_are_not_taken_for_new_patients(
    tiny_config: Config, simulated: Manifest, finetuned: Path, tmp_path: Path
) -> None:
    nameless = replace(simulated, external_institutions=(), table={**simulated.table, "without_patient_id": 7})
    whole = replace(simulated, external_institutions=())
    for trained_on, tested_on in ((simulated, nameless), (nameless, whole)):
        note_finetuning(tiny_config, replace(trained_on, external_institutions=("institution_3",)))
        results = evaluated(tiny_config, tested_on, tmp_path)
        assert "7 of " in results.notes[1]
        assert "may be among the test ECGs of institution_1, institution_2." in results.notes[1]
        assert results.notes[2].startswith("Left out: 0 ECGs of 0 patients")
        assert set(rows_tested(tmp_path)["record_id"]) == labelled(simulated, ["test"], [*INTERNAL, *EXTERNAL])


def test_an_institution_that_is_all_test_is_external_whether_it_was_called_so_or_not(
    tiny_config: Config, simulated: Manifest, tmp_path: Path
) -> None:
    uncalled = replace(simulated, external_institutions=())
    note_finetuning(tiny_config, uncalled, fraction=0.3)
    results = evaluated(tiny_config, uncalled, tmp_path)
    assert roles(results) == {"institution_1": "internal", "institution_2": "internal", "institution_3": "external"}
    assert results.dataset == Dataset(uncalled.folder, uncalled.digest, uncalled.count())


def test_another_dataset_where_the_runs_own_lay_is_not_taken_for_it(
    tiny_config: Config, simulated: Manifest, tmp_path: Path
) -> None:
    note_finetuning(tiny_config, replace(simulated, external_institutions=("institution_2", "institution_3")))
    config = replace(tiny_config, training=replace(tiny_config.training, dataset=""))
    with pytest.raises(RunError, match="Expected the dataset that the run"):
        own_dataset("evaluate", config)


def test_another_file_beside_an_encoder_does_not_inherit_its_record(
    tiny_config: Config, simulated: Manifest, tmp_path: Path
) -> None:
    encoder = note_pretraining(tiny_config, simulated, tmp_path / "pretrain", ("train",))
    for name, known in ((encoder.name, True), ("other.keras", False)):
        trained = expect_training_data(note_finetuning(tiny_config, simulated, encoder.with_name(name)), "finetune")
        assert (trained.before is not None) == known


def test_what_is_noted_is_what_was_learnt_from(simulated: Manifest) -> None:
    everything = learnt_from(simulated, ("train", "validation", "test"), labelled=False)
    assert sorted(everything.recordings) == INTERNAL
    for institution, splits in everything.recordings.items():
        assert splits == {split: simulated.count(split, institution=institution) for split in splits}
    half = learnt_from(simulated, ("train", "validation"), labelled=True, label_fraction=0.5, seed=3)
    chosen = [labelled_patients(simulated, 0.5, 3, split) for split in ("train", "validation")]
    assert half.patients == {key for part in chosen for key in part.keys}
    assert sum(splits["train"] for splits in half.recordings.values()) == chosen[0].recordings
