"""What a report says of calibration, net benefit, subgroups, enough cases and TRIPOD+AI; its page in a browser."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from keras_ecg_mae.errors import RunError
from keras_ecg_mae.pages.tables import Table
from keras_ecg_mae.reports.document import Document
from keras_ecg_mae.reports.report import make_report
from keras_ecg_mae.reports.tripod import FIELDS, TO_WRITE, read_study
from keras_ecg_mae.runs.folder import EVALUATION_FIGURES

MakeRun = Callable[..., Path]


def tables(document: Document) -> dict[str, Table]:
    return {table.name: table for part in document.parts for table in part.tables}


def cells(table: Table, head: str) -> dict[str, Any]:
    (row,) = [row for row in table.rows if row.head == head]
    return dict(zip(table.columns, row.cells, strict=True))


def test_rows_are_of_the_ecgs_whose_name_they_bear(made_run: MakeRun) -> None:
    run = made_run("run", external=("b", "c", "d"))
    document = make_report([run], [])
    table = pd.read_csv(run / "evaluation" / "predictions.csv")
    test = table[table["split"] == "test"]
    measured, by_sex = (tables(document)[name] for name in ("clinical_1", "subgroups_1"))
    for head, rows in (("b", test[test["institution"] == "b"]), ("all external", test[test["institution"] != "a"])):
        shown = cells(measured, head)
        assert shown["ECGs"].text == f"{len(rows):,}"
        assert shown["Patients"].text == str(rows["patient_key"].nunique())
        ratio = rows["label"].sum() / rows["probability"].sum()
        assert shown["O:E"].text.startswith(f"{ratio:.3f} (")
        assert shown["Brier"].text.startswith(f"{np.mean((rows['probability'] - rows['label']) ** 2):.3f} (")
    women = cells(by_sex, "sex: F")
    assert women["ECGs"].text == str((test["sex"] == "F").sum())
    assert [row.head for row in by_sex.rows] == [
        "sex: F",
        "sex: M",
        *("age: under 40 years", "age: 40 to 59", "age: 60 to 74", "age: 75 and over"),
    ]


def test_too_few_is_said_by_measure_and_few_patients_are_marked(made_run: MakeRun) -> None:
    document = make_report([made_run("run", external=("b", "c", "d"))], [])
    measured = tables(document)["clinical_1"]
    pool = cells(measured, "all external")
    assert pool["O:E"].detail.startswith("too few: ")
    assert pool["Slope"].detail.startswith("too few: ")
    assert not pool["AUROC"].marked
    small = cells(measured, "a")  # half of its patients are validation ones
    assert small["AUROC"].marked
    across = cells(measured, "across 3 external institutions")
    assert across["AUROC"].detail.startswith("predicted ")
    assert across["Brier"].text == "-"


def test_a_column_that_the_predictions_lack_is_named_with_those_they_have(made_run: MakeRun) -> None:
    run = made_run("run")
    with pytest.raises(RunError, match=r"Expected --subgroups among .*sex, age.*'weight'"):
        make_report([run], [], subgroups=["weight"])


def test_tripod_items_have_a_persons_answer_the_packages_or_none(made_run: MakeRun, tmp_path: Path) -> None:
    study = tmp_path / "study.toml"
    study.write_text('ethics = "Approved by the board of <A>."\nlimitations = "One country."\n')
    document = make_report([made_run("run")], [], study=read_study(study))
    answers = {row.head: row.cells[1].text for row in tables(document)["tripod_ai"].rows}
    assert len(answers) == 52
    assert answers["17"] == "Approved by the board of <A>."
    assert answers["26"].startswith("One country.")
    assert answers["18a"] == f"{TO_WRITE} (study.toml: funding)"
    assert answers["24"] == "not done"
    assert "Youden" in answers["15"]
    assert "&lt;A&gt;" in document.html()


def test_what_is_no_study_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "study.toml"
    with pytest.raises(RunError, match="no such file"):
        read_study(path)
    for content, message in (("= 1", "Expected TOML"), ("colour = 'red'", "colour"), ("ethics = 3", "ethics = 3")):
        path.write_text(content)
        with pytest.raises(RunError, match=message):
            read_study(path)
    path.write_text("".join(f'{field} = "x"\n' for field in FIELDS))
    assert set(read_study(path)) == set(FIELDS)


@pytest.mark.slow
@pytest.mark.skipif(not (shutil.which("chromium") and shutil.which("chromedriver")), reason="needs Chromium")
@pytest.mark.parametrize("width", [1280, 390])
def test_the_page_of_seven_runs_in_a_browser(made_run: MakeRun, tmp_path: Path, width: int) -> None:
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    names, datasets = "abcdefgh", ("dataset1", "dataset2")
    runs = [
        made_run(
            f"run{number}",
            *(["--architecture=cnn"] if number in (0, 1) else []),
            dataset=datasets[number % 2],
            external=tuple(names[3:]),
            institutions=tuple(names),
            seed=number,
        )
        for number in range(7)
    ]
    for run in runs:
        for name in EVALUATION_FIGURES.values():
            (run / "evaluation" / name).unlink()  # which made_run leaves empty
    make_report(runs, []).write(tmp_path / "report")
    options = webdriver.ChromeOptions()
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--window-size=1280,900"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    browser = webdriver.Chrome(options, Service(shutil.which("chromedriver")))
    try:
        size = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 500}
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        browser.get((tmp_path / "report" / "report.html").as_uri())
        assert browser.execute_script("return document.documentElement.scrollWidth") <= width
        broken = "return [...document.images].filter(each => !each.naturalWidth || !each.alt).length"
        assert browser.execute_script(broken) == 0
        assert browser.execute_script("return document.images.length") >= 35
        assert browser.get_log("browser") == []  # type: ignore[no-untyped-call]
    finally:
        browser.quit()
