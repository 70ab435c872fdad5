"""TensorBoard, started as `train` says and opened in Chromium: what a user sees of a run."""

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from selenium import webdriver
from selenium.common.exceptions import TimeoutException
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.support.wait import WebDriverWait

from keras_ecg_mae.config import Config, Finetuning, Model, Pretraining, Training
from keras_ecg_mae.dataset import Manifest
from keras_ecg_mae.stages import begin_run, run_stage

# What stands on each page of the tiny run: runs, the groups of their tags, and the settings of the two trials.
RUNS = ("pretrain/tensorboard", "finetune/0.001/tensorboard", "finetune/0.0003/tensorboard")
SCALARS = ("loss", "validation", "rate")
IMAGES = ("reconstruction", "validation")
HPARAMS = ("batch_size", "learning_rate", "recipe", "0.0010000", "0.00030000", "auroc")

# A page's text with that of its shadow trees, which most of TensorBoard's pages are made of.
TEXT = """
const text = (node) => node.nodeType === Node.TEXT_NODE ? node.data
  : ['SCRIPT', 'STYLE', 'TEMPLATE'].includes(node.nodeName) ? ''
  : [node.shadowRoot, ...node.childNodes].filter(Boolean).map(part => text(part)).join(' ');
return text(document.body);
"""
PICTURES = """
const every = (root) => [...root.querySelectorAll('*')].flatMap(
  element => [element, ...(element.shadowRoot ? every(element.shadowRoot) : [])]);
return every(document).filter(element => element.nodeName === 'IMG' && element.naturalWidth > 100).length;
"""


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[webdriver.Chrome]:
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if chromium is None or driver is None:
        pytest.skip("chromium and chromedriver (Debian: chromium, chromium-driver) are not on this machine")
    options = Options()
    options.binary_location = chromium
    for flag in (
        "--headless",
        "--no-sandbox",  # it refuses to be run by root otherwise
        "--disable-gpu",
        "--disable-quic",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        "--window-size=1400,1000",
        f"--user-data-dir={tmp_path_factory.mktemp('chromium')}",
    ):
        options.add_argument(flag)
    with webdriver.Chrome(options, Service(driver)) as opened:
        yield opened


@pytest.fixture(scope="module")
def tensorboard(simulated: Manifest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Its address, over a run that was pretrained and fine-tuned at two rates."""
    run = str(tmp_path_factory.mktemp("watched") / "run")
    config = Config(
        model=Model(size="tiny"),
        training=Training(dataset=simulated.folder, run=run),
        pretraining=Pretraining(epochs=2, batch_size=16, warmup_epochs=1, validation_epochs=1),
        finetuning=Finetuning(epochs=2, batch_size=16, learning_rates=(1e-3, 3e-4)),
    )
    begin_run(config, simulated)
    run_stage("pretrain", config, simulated)
    run_stage("finetune", config, simulated)
    command = [str(Path(sys.executable).with_name("tensorboard")), "--logdir", run]
    with subprocess.Popen([*command, "--host=127.0.0.1", "--port=0"], stderr=subprocess.PIPE, text=True) as started:
        assert started.stderr is not None
        said = []
        for line in started.stderr:
            said.append(line)
            if found := re.search(r"http://127\.0\.0\.1:\d+/", line):
                yield found[0]
                break
        else:
            pytest.fail("".join(said))
        started.terminate()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("page", "expected"),
    [("timeseries", (*RUNS, *SCALARS, *IMAGES)), ("images", (*RUNS, *IMAGES)), ("hparams", HPARAMS)],
)
def test_a_page_shows_the_run(
    page: str, expected: tuple[str, ...], tensorboard: str, browser: webdriver.Chrome
) -> None:
    browser.get(f"{tensorboard}#{page}")
    browser.refresh()  # after the first page only what stands behind # changes, which loads nothing

    def missing() -> list[str]:
        text = browser.execute_script(TEXT)
        return [tag for tag in expected if tag not in text]

    def complete(_: webdriver.Chrome) -> bool:
        return not missing() and (page != "images" or browser.execute_script(PICTURES) > 0)

    try:
        WebDriverWait(browser, 60).until(complete)
    except TimeoutException:
        pytest.fail(f"The page {page} lacks {missing()}, or pictures: {browser.execute_script(TEXT)}")
