"""The seven experiments of the paper's table 3, each by its own flag file, at the smallest size, and their report."""

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from keras_ecg_mae import prepare, report, train
from keras_ecg_mae.evaluation.evaluate import read_results
from keras_ecg_mae.models.build import ARCHITECTURES, build_autoencoder
from keras_ecg_mae.models.published_weights import state_dict
from keras_ecg_mae.reports.finished_run import read_finished_run
from keras_ecg_mae.simulation.cohort import write_simulated_cohort
from tests.commands import parse
from tests.training.conftest import SMALLEST

PIPELINES = Path(__file__).resolve().parent.parent / "pipelines"
# In this order: ds1_mae_ds2 starts from what ds2 has pretrained, ds2_mae_ds1 from what ds1 has.
EXPERIMENTS = ("ds1_cnn", "ds1", "ds2", "ds1_mae_ds2", "ds2_cnn", "ds2_imagenet", "ds2_mae_ds1")
TINY = (
    "--size=tiny",
    "--precision=float32",
    "--pretrain_epochs=1",
    "--pretrain_warmup_epochs=0",
    "--pretrain_batch_size=8",
    "--finetune_epochs=1",
    "--finetune_batch_size=8",
    "--finetune_learning_rates=1e-3",
    "--export_despite_gate",
)

# Exports are slow, and two of them tell.
EXPORTED = ("ds1_cnn", "ds1_mae_ds2")
# Institutions that pretraining saw, in which run, and those that evaluation tells of: on its own dataset it saw test
# ECGs, on another one any that the run's dataset has as well.
PRETRAINED_ON = {
    "ds1": ((1,), "runs/ds1", "institution_1"),
    "ds2": ((1, 2, 3), "runs/ds2", "institution_1, institution_2, institution_3"),
    "ds1_mae_ds2": ((1, 2, 3), "runs/ds2", "institution_1, institution_2, institution_3"),
    "ds2_mae_ds1": ((1,), "runs/ds1", "institution_1"),
}


def image_weights() -> dict[str, np.ndarray]:
    """Random weights as an autoencoder of images would have them: other patches, other positions."""
    model = build_autoencoder(ARCHITECTURES["tiny"], normalization="none", mask_ratio=0.75, normalize_target=False)
    generator = np.random.default_rng(0)
    width = ARCHITECTURES["tiny"].encoder.width
    return {
        **state_dict(model),
        "patch_embed.proj.weight": generator.normal(size=(width, 3, 16, 16)).astype("float32"),
        "pos_embed": generator.normal(size=(1, 197, width)).astype("float32"),
    }


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A working folder as a user has one, with a cohort of eight institutions and weights they brought."""
    folder = tmp_path_factory.mktemp("experiments")
    shutil.copytree(PIPELINES, folder / "pipelines")
    write_simulated_cohort(
        folder / "recordings", folder / "table.csv", patients=240, institutions=8, prevalence=0.4, seed=3
    )
    (folder / "runs" / "weights").mkdir(parents=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(ARCHITECTURES, "tiny", SMALLEST)
        np.savez(folder / "runs" / "weights" / "image.npz", **image_weights())
        yield folder


@pytest.mark.slow
def test_seven_flag_files_make_table_3_beside_the_papers(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(folder)
    for dataset in ("dataset1", "dataset2"):
        settings = (f"--flagfile=pipelines/{dataset}.flags", "--recordings=recordings", "--labels=table.csv")
        assert prepare.main(parse(*settings)[0], []) == 0
    for name in EXPERIMENTS:
        bring = ["--finetune_encoder=runs/weights/image.npz"] if "imagenet" in name else []
        if name not in EXPORTED:
            bring.append(f"--stages={'pretrain,' if name in ('ds1', 'ds2') else ''}finetune,evaluate")
        assert train.main(parse(f"--flagfile=pipelines/{name}.flags", *TINY, *bring)[0], []) == 0
    for name, (seen, run, also) in PRETRAINED_ON.items():
        notes = read_results(folder / "runs" / name / "evaluation").notes
        assert [f"ECGs of {also} (" in note for note in notes] == [True]
        splits = f"the train, validation and test ECGs of {', '.join(f'institution_{number}' for number in seen)}"
        card = folder / "saved_models" / name / "1" / "assets" / "model_card.md"
        if name in EXPORTED:
            dataset = f"dataset runs/dataset{len(seen) // 2 + 1}, run {run}"
            assert f"Pretraining saw, without labels, {splits} ({dataset})" in card.read_text()
    capsys.readouterr()
    paper = pd.read_csv("pipelines/paper/table_3.csv", index_col=0)
    asked = ("--report_output=report", "--paper=pipelines/paper", "--fewer_labels=runs/ds1,runs/ds2_cnn")
    assert report.main(parse(*asked)[0], [f"runs/{name}" for name in paper.columns]) == 0
    ours = pd.read_csv("report/table_3.csv", index_col=0, header=None)
    # Columns and rows as in the paper's table, and a number where it has one.
    assert list(ours.loc["Model"]) == ["CNN", "ViT-Tiny", "ViT-Tiny", "CNN", "ViT-Tiny", "ViT-Tiny", "ViT-Tiny"]
    assert list(ours.loc["Pre-training"]) == (
        ["-", "dataset1", "dataset2", "-", "images: image.npz", "dataset1", "dataset2"]
    )
    assert list(ours.loc["Fine-tuning"]) == ["dataset1"] * 3 + ["dataset2"] * 4
    rows = {"test1": "Test of dataset1", "test2": "Test of dataset2"}
    assert list(ours.index[3:]) == [rows.get(name, name) for name in paper.index]
    for printed, cells in zip(paper.to_numpy(), ours.iloc[3:].to_numpy(), strict=True):
        for number, cell in zip(printed, cells, strict=True):
            auroc = r"[01]\.\d{3} \([01]\.\d{3}-[01]\.\d{3}\)( †)?"
            pattern = "-" if np.isnan(number) else rf"{auroc}; paper {number:.2f} \([+-]\d\.\d{{3}}\)"
            assert re.fullmatch(pattern, cell), (number, cell)
    claim = pd.read_csv("report/fewer_labels.csv", index_col=0)
    assert list(claim.index) == [f"institution_{number}" for number in range(4, 9)]
    assert all(re.fullmatch(r"(\d+); of \1 and \1", cell) for cell in claim["ECGs of both"])
    supplement = pd.read_csv("report/table_3_institutions.csv", index_col=0)
    assert list(supplement.index) == [
        *(f"institution_{number}" for number in range(1, 9)),
        *("all internal", "all external"),
    ]
    assert {f"table_{number}.csv" for number in (1, 2, 3, 4)} <= {path.name for path in (folder / "report").iterdir()}
    printed = capsys.readouterr().out
    labels = [read_finished_run(folder / "runs" / name).labels for name in ("ds1", "ds2_cnn")]
    for words in ("Table 3", "The paper's two models used 31,816 and 107,571: 30%", f"{labels[0] / labels[1]:.0%}"):
        assert words in printed
    assert (folder / "report" / "report.html").is_file()
