"""The command report, as a user types it."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from keras_ecg_mae.config import Config, Report
from keras_ecg_mae.errors import ConfigError, RunError
from keras_ecg_mae.report import main

REPOSITORY = Path(__file__).resolve().parent.parent
MakeRun = Callable[..., Path]


def test_it_prints_markdown_and_writes_files(made_run: MakeRun, tmp_path: Path) -> None:
    runs = [made_run("mae", "--title=MAE", gain=0.9, seed=1), made_run("cnn", "--title=CNN", "--architecture=cnn")]
    answer = subprocess.run(
        [sys.executable, "-m", "keras_ecg_mae.report", *map(str, runs), "--report_output=new/report"],
        check=False,
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
    )
    assert answer.returncode == 0, answer.stderr
    assert answer.stdout == (tmp_path / "new/report/report.md").read_text(encoding="utf-8")
    assert "| Model | ViT-Large | CNN |\n|---|---:|---:|\n| Pre-training | dataset1 | - |" in answer.stdout
    assert "|  | Trained on dataset1: MAE | Trained on dataset1: CNN |" in answer.stdout
    assert "| all external | " in answer.stdout
    assert "<br>p < 0.001 (t), z = " in answer.stdout
    assert "for lvsd (ejection fraction under 40%) on test ECGs" in answer.stdout
    written = {path.name for path in (tmp_path / "new/report").iterdir()}
    tables = ("table_3", "table_3_institutions", "table_3_ecgs", "table_3_cells", "sources", "tripod_ai")
    of_a_run = ("roc_{}.png", "calibration_{}.png", "decision_{}.png", "subgroups_{}.csv", "per_thousand_{}.csv")
    wanted = {"report.md", "report.html", *(f"{name}.csv" for name in tables)}
    assert written >= wanted | {name.format(number) for name in of_a_run for number in (1, 2)}


@pytest.mark.parametrize(
    ("folders", "output", "message"),
    [
        (["run"], "", r"Expected --report_output\. Received none"),
        ([], "report", r"Expected run folders or dataset folders to report on\. Received none"),
        (["nowhere"], "report", r"Expected the folder of a run, .* or of a dataset, .*Received 'nowhere'"),
        (["."], "report", r"with manifest.json or cohort.json. Received '.', which has none of them"),
        (["run"], "file", r"Expected --report_output to be a folder\. Received the file 'file'"),
    ],
)
def test_wrong_arguments_are_one_sentence(
    folders: list[str], output: str, message: str, made_run: MakeRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made_run("run")
    (tmp_path / "file").write_text("")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=message):
        main(Config(report=Report(report_output=output)), folders)
    assert not (tmp_path / "report").exists()


def test_an_unfinished_run_is_named_with_what_it_lacks(made_run: MakeRun, tmp_path: Path) -> None:
    run = made_run("run")
    (run / "evaluation" / "done.json").unlink()
    with pytest.raises(RunError, match=r"run: Expected a finished run. Received one without evaluation/done.json"):
        main(Config(report=Report(report_output=str(tmp_path / "report"))), [str(run)])
