"""What a report says of runs and datasets, and what it says where a dataset is gone."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from keras_ecg_mae.cohort.description import CohortDescription
from keras_ecg_mae.dataset import Manifest
from keras_ecg_mae.dataset.manifest import read_cohort, write_cohort
from keras_ecg_mae.errors import DatasetError, RunError
from keras_ecg_mae.reports.document import Document
from keras_ecg_mae.reports.report import make_report
from keras_ecg_mae.runs.folder import read_done

MakeRun = Callable[..., Path]
PAPER = Path(__file__).parents[2] / "pipelines" / "paper"
EVALUATION = ("clinical_1", "subgroups_1", "net_benefit_1", "threshold_1", "per_thousand_1")
SUPPLEMENT = ("demographics", "internal_characteristics", "external_characteristics")


def names(document: Document) -> list[str]:
    return [table.name for part in document.parts for table in part.tables]


def move_to(run: Path, manifest: Manifest) -> None:
    """Makes a run one of this dataset."""
    done = json.loads((run / "finetune" / "done.json").read_text())
    dataset = {"folder": manifest.folder, "sha256": manifest.digest, "recordings": manifest.count()}
    done["training_data"]["dataset"] = done["training_data"]["before"]["dataset"] = dataset
    (run / "finetune" / "done.json").write_text(json.dumps(done))
    (run / "evaluation" / "settings.json").write_text(json.dumps({"finetune": read_done(run / "finetune")}))


def test_a_runs_own_dataset_is_found(made_run: MakeRun, simulated: Manifest) -> None:
    run = made_run("run")
    move_to(run, simulated)
    document = make_report([run], [])
    accuracy = ["table_3", "table_3_institutions", "table_3_ecgs"]
    assert names(document) == [*accuracy, *EVALUATION, "table_1", "table_4", *SUPPLEMENT, "tripod_ai", "sources"]
    assert [table.name for table in document.attachments] == ["table_3_cells"]
    # Named as well, it is the same.
    assert names(make_report([run], [simulated.folder, f"{simulated.folder}/"])) == names(document)


def test_a_dataset_that_is_gone_or_another_one_is_told_of(
    made_run: MakeRun, simulated: Manifest, tmp_path: Path
) -> None:
    gone, changed = made_run("gone", dataset="dataset2"), made_run("changed")
    move_to(changed, simulated)
    for file in (changed / "finetune" / "done.json", changed / "evaluation" / "settings.json"):
        file.write_text(file.read_text().replace(simulated.digest, "0" * 64))
    document = make_report([gone, changed], [])
    (part,) = [part for part in document.parts if part.title == "Cohorts"]
    assert part.tables == ()
    assert "missing/dataset2 is no folder on this machine" in part.remarks[0]
    assert f"{simulated.folder} has the checksum {simulated.digest} now, not {'0' * 64}." in part.remarks[1]


def test_datasets_alone_are_reported_on_each_with_its_own_files(simulated: Manifest, tmp_path: Path) -> None:
    copy = tmp_path / "a copy"
    shutil.copytree(simulated.folder, copy)
    document = make_report([], [simulated.folder, str(copy)])
    # Neither is more than the other, so which would be dataset 1 is not known: no table has a number.
    assert names(document) == [
        *(f"{table}_{name}" for name in ("dataset", "a_copy") for table in ("details", "institutions")),
        *(f"{table}_{name}" for name in ("dataset", "a_copy") for table in SUPPLEMENT),
    ]
    assert document.title == "Report: cohorts"
    captions = [table.caption for part in document.parts for table in part.tables]
    assert captions[0] == "Details of dataset"
    assert captions[3].endswith(", by a copy")
    assert not any(caption.startswith("Table") for caption in captions)
    with pytest.raises(DatasetError, match="nowhere"):
        make_report([], [str(tmp_path / "nowhere")])


def test_a_table_that_was_split_without_recordings_is_reported_on(simulated: Manifest, tmp_path: Path) -> None:
    fields = ("label_name", "external_institutions", "counts", "characteristics", "patients", "settings")
    description = CohortDescription(**{name: getattr(simulated, name) for name in fields})
    folder = tmp_path / Path(simulated.folder).name
    folder.mkdir()
    write_cohort(str(folder), description, table_sha256="")
    document, prepared = make_report([], [str(folder)]), make_report([], [simulated.folder])
    assert document.parts == prepared.parts
    assert read_cohort(str(folder)).lvef_threshold == simulated.lvef_threshold == 40.0


def test_tables_of_a_dataset_count_what_its_manifest_counts(simulated: Manifest) -> None:
    tables = {table.name: table for part in make_report([], [simulated.folder]).parts for table in part.tables}
    one, two, four = (tables[name] for name in SUPPLEMENT)
    assert one.columns == simulated.institutions
    assert one.groups == ("Internal", "Internal", "External")
    ecgs = one.rows[0].cells
    assert [cell.text for cell in ecgs] == [str(simulated.count(institution=name)) for name in simulated.institutions]
    external = [cell.text.split(" ")[0] for cell in four.rows[0].cells]
    positive = simulated.positives(institution="institution_3")
    labelled = simulated.count(labelled=True, institution="institution_3")
    assert external == [str(positive), str(labelled - positive)]
    internal = [int(cell.text.split(" ")[0]) for cell in two.rows[0].cells]
    assert sum(internal) == simulated.count(labelled=True) - labelled
    assert tables["table_1"].rows[-1].cells[-1].text == str(sum(map(int, [cell.text for cell in ecgs[:2]])))


def test_two_runs_are_compared_at_the_institutions_external_to_both(made_run: MakeRun) -> None:
    few, many = made_run("few"), made_run("many", "--architecture=cnn", dataset="dataset2", external=("c", "d"))
    assert "fewer_labels" not in names(make_report([few, many], []))
    for given in ([], [few], [many, few]):
        document = make_report(given, [], fewer=[few, many])
        (part,) = [part for part in document.parts if part.title == "Fewer labels"]
        assert part.tables[0].columns[1:3] == ("few, trained on dataset1", "many, trained on dataset2")


def test_learning_curves_and_the_evaluations_figures_are_in_it(made_run: MakeRun) -> None:
    run = made_run("pretrained")
    for name in ("roc", "calibration"):
        (run / "evaluation" / f"{name}.png").write_bytes(name.encode())
    (run / "finetune" / "0.001").mkdir(exist_ok=True)
    (run / "finetune" / "0.001" / "metrics.csv").write_text(
        "epoch,step,loss,validation_loss\n0,9,0.6,0.7\n1,18,0.4,0.6\n"
    )
    (run / "pretrain").mkdir(exist_ok=True)
    (run / "pretrain" / "metrics.csv").write_text(
        "epoch,step,loss,validation_error,validation_lead_visible_mean\n0,9,1.0,,\n1,18,0.9,0.8,1.1\n"
    )
    parts = {part.title: part for part in make_report([run], []).parts}
    drawn = parts["Discrimination and calibration"].pictures
    assert [(picture.name, picture.png) for picture in drawn] == [("roc_1", b"roc"), ("calibration_1", b"calibration")]
    (curves,) = parts["Learning curves"].pictures
    assert curves.png.startswith(b"\x89PNG")


def test_pictures_of_pretrained_runs_are_in_it(made_run: MakeRun) -> None:
    plain, pretrained = made_run("plain", dataset="dataset2"), made_run("pretrained", "--title=MAE")
    (pretrained / "pretrain" / "reconstruction.png").write_bytes(b"twelve")
    (pretrained / "pretrain" / "reconstruction_II_V5.png").write_bytes(b"two")
    (part,) = [part for part in make_report([plain, pretrained], []).parts if part.title == "Reconstructions"]
    pictures = part.pictures
    assert [(picture.name, picture.png) for picture in pictures] == [("figure_1_2", b"two"), ("figure_3_2", b"twelve")]
    assert pictures[0].caption.startswith("Figure 1. Leads II and V5")
    assert pictures[1].caption.endswith("MAE, trained on dataset1.")


def test_what_a_pretraining_left_that_the_run_did_not_start_from_is_not_in_it(made_run: MakeRun) -> None:
    run = made_run("run", "--finetune_encoder=random")
    (run / "pretrain").mkdir()
    for name in ("reconstruction.png", "reconstruction_II_V5.png", "reconstruction.csv"):
        (run / "pretrain" / name).write_bytes(b"of another encoder")
    assert "Reconstructions" not in [part.title for part in make_report([run], []).parts]


def test_a_dataset_in_the_folder_of_a_runs_dataset_has_another_name(made_run: MakeRun, simulated: Manifest) -> None:
    run = made_run("run")
    for file in (run / "finetune" / "done.json", run / "evaluation" / "settings.json"):
        file.write_text(file.read_text().replace("missing/dataset1", simulated.folder))
    (part,) = [part for part in make_report([run], [simulated.folder]).parts if part.title == "Cohorts"]
    assert part.remarks[0].startswith("No tables of dataset, ")
    assert part.tables[0].caption == "Table 1. Details of dataset (as it is now)"


def test_two_shares_of_the_labels_of_one_dataset_are_one_dataset(made_run: MakeRun, simulated: Manifest) -> None:
    runs = [made_run("all"), made_run("few", "--finetune_label_fraction=0.1")]
    for run in runs:
        move_to(run, simulated)
    tables = [table for part in make_report(runs, []).parts for table in part.tables]
    assert [table.caption for table in tables if table.name == "table_1"] == ["Table 1. Details of dataset"]


def test_two_runs_of_one_column_of_the_paper_are_named(made_run: MakeRun) -> None:
    institutions = tuple(f"institution_{number}" for number in (1, 2, 3, 4))
    flags = ("--architecture=cnn", "--paper_column=ds2_cnn")
    runs = [
        made_run(name, *flags, dataset=name, institutions=institutions, external=institutions[3:])
        for name in ("one", "two")
    ]
    with pytest.raises(RunError, match=r"one, .*two: name .* --fewer_labels"):
        make_report(runs, [], paper_folder=PAPER)


def test_runs_alone_are_reported_on_without_tensorflow(made_run: MakeRun) -> None:
    program = (
        "import sys; from pathlib import Path; from keras_ecg_mae.reports.report import make_report; "
        "make_report([Path(sys.argv[1])], []); sys.exit('tensorflow' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program, str(made_run("run"))], check=True)
