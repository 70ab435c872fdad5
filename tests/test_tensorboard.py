"""TensorBoard, started as `train` says and opened in Chromium: what a user sees of a run."""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from selenium import webdriver
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.support.wait import WebDriverWait

from keras_ecg_mae.config import Config
from keras_ecg_mae.dataset import Manifest
from keras_ecg_mae.stages import begin_run, run_stage

# What stands on each page of the tiny run: the tags of pretrain/ and finetune/, and the settings of a trial.
SCALARS = ("loss", "validation_loss", "validation_auroc", "learning_rate", "gradient_norm")
IMAGES = ("reconstruction", "validation_roc", "validation_calibration")
HPARAMS = ("learning_rate", "0.0010000", "0.00030000", "validation_auroc")

# A page's text with that of its shadow trees, which most of TensorBoard's pages are made of.
TEXT = """
const text = (node) => node.nodeType === Node.TEXT_NODE ? node.data
  : ['SCRIPT', 'STYLE', 'TEMPLATE'].includes(node.nodeName) ? ''
  : [node.shadowRoot, ...node.childNodes].filter(Boolean).map(part => text(part)).join(' ');
return text(document.body);
"""
PICTURES = """
const images = (root) => [...root.querySelectorAll('*')].flatMap(
  element => [...(element.nodeName === 'IMG' ? [element] : []), ...(element.shadowRoot ? images(element.shadowRoot) : [])]);
return images(document).filter(image => image.complete && image.naturalWidth > 100).length;
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


@pytest.fixture
def tensorboard(tiny_config: Config, simulated: Manifest) -> Iterator[str]:
    """Its address, over a run that was pretrained and fine-tuned at two rates."""
    begin_run(tiny_config, simulated, chief=True)
    for stage in ("pretrain", "finetune"):
        run_stage(stage, tiny_config, simulated)
    command = [str(Path(sys.executable).with_name("tensorboard")), "--logdir", tiny_config.training.run]
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
def test_its_pages_show_a_run(tensorboard: str, browser: webdriver.Chrome) -> None:
    for page, expected in {"timeseries": (*SCALARS, *IMAGES), "images": IMAGES, "hparams": HPARAMS}.items():
        browser.get(f"{tensorboard}#{page}")
        browser.refresh()  # after the first page only what stands behind # changes, which loads nothing
        WebDriverWait(browser, 60).until(
            lambda opened: all(tag in opened.execute_script(TEXT) for tag in expected), f"{page}: {expected}"
        )
        if page == "images":
            WebDriverWait(browser, 30).until(lambda opened: opened.execute_script(PICTURES) >= len(expected))
