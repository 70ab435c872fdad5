"""Every command that texts and messages show is typed here, as a shell understands it, at the smallest size.

`KNOWN` has one entry for each of them: how to fill its placeholders, or why it is not typed here. A command that is
shown and has no entry fails, and so does an entry that nothing shows.
"""

import ast
import io
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import redirect_stdout
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from itertools import takewhile
from pathlib import Path

import pandas as pd
import pytest

from keras_ecg_mae import flags
from keras_ecg_mae.config import Config, Section
from keras_ecg_mae.models.build import ARCHITECTURES
from tests.commands import parse, program
from tests.training.conftest import SMALLEST

REPOSITORY = Path(__file__).resolve().parent.parent
MODEL_SERVER = REPOSITORY / "tests" / "serving" / "model_server.py"
COMMAND = re.compile(
    r"(?:\b(?:for|find) .*)?(?<!\S)(?:[\w./]+/)?"
    r"(?:python -m keras_ecg_mae\.|python \w+/|tensorboard --|make [A-Za-z]+)"
)
# In a sentence of a message: on over spaces as long as flags, placeholders (`FILE...`) or values (`{}`) follow.
IN_MESSAGE = re.compile(r"(?:python -m keras_ecg_mae\.\w+|tensorboard --logdir|\bmake demo)(?:[^\s`]| (?=[-{A-Z>]))*")

RECORDINGS, TABLE = "runs/demo/recordings", "runs/demo/recordings/labels.csv"
FILL = {
    "FILE...": f"{RECORDINGS}/institution_1/*0.hea",
    "ROOT": RECORDINGS,
    "TABLE.csv": TABLE,
    "TABLE": TABLE,
    "DATASET": "runs/demo/dataset",
    "RUN": "runs/demo",
    "FOLDER": "folder",
    "saved_models/NAME": "saved_models/demo",
    "--model=NAME": "--model=demo",
    "--name=NAME": "--name=again",
}
TRAINED = (
    "--size=tiny --precision=float32 --pretrain_epochs=1 --pretrain_warmup_epochs=0 --pretrain_batch_size=16 "
    "--finetune_epochs=1 --finetune_batch_size=16 --finetune_learning_rates=1e-3 --finetune_label_fraction=1 "
    "--export_batch_sizes=1 --export_despite_gate"
)
PRINTED = "what train prints under Next: is typed as it stands, after each train"
CLUSTER = "needs a cluster or a cloud"
EXPERIMENTS = "tests/test_experiments.py types the paper's experiments and their report"


@dataclass(frozen=True)
class Known:
    """A command that is shown; `*` in it stands for anything.

    Attributes:
        elsewhere: why it is not typed here; empty: it is.
        fill: placeholders in it, before those of `FILL`.
        more: flags that make it small.
        makes: what has to be there afterwards.
    """

    shown: str
    elsewhere: str = ""
    fill: dict[str, str] = field(default_factory=dict)
    more: str = ""
    makes: str = ""


# In the order in which they are typed: each finds what those before it have made.
DEMO = (
    Known(
        "python -m keras_ecg_mae.simulate --flagfile=pipelines/demo.flags",
        more="--simulate_patients=160 --simulate_institutions=8 --simulate_prevalence=0.4",
        makes=TABLE,
    ),
    Known("python -m keras_ecg_mae.prepare --flagfile=pipelines/demo.flags", makes="runs/demo/dataset/manifest.json"),
    Known(
        "python -m keras_ecg_mae.train --flagfile=pipelines/demo.flags",
        more=TRAINED,
        makes="saved_models/demo/1/saved_model.pb",
    ),
    Known(
        "python -m keras_ecg_mae.train --flagfile=pipelines/demo_random.flags",
        more=TRAINED,
        makes="runs/demo_random/evaluation/done.json",
    ),
    Known(
        "python -m keras_ecg_mae.report --report_output=runs/demo/report --report_printed=sentences runs/demo "
        "runs/demo_random",
        makes="runs/demo/report/pretraining_effect.csv",
    ),
)
OTHERS = (
    Known("make demo", "its commands are those of pipelines/demo.flags, which a test below compares"),
    Known("tensorboard --logdir *", "opened in a browser below"),
    Known("python -m keras_ecg_mae.predict --model={} FILE...", PRINTED),
    Known("python -m keras_ecg_mae.predict --model=saved_models/demo/1 FILE..."),
    Known("python -m keras_ecg_mae.predict --model=saved_models/NAME FILE..."),
    Known("python -m keras_ecg_mae.predict --model=saved_models/NAME --dataset=DATASET"),
    Known(
        "find recordings * | python -m keras_ecg_mae.predict --model=saved_models/NAME --files=- *",
        fill={"find recordings": f"find {RECORDINGS}/institution_2"},
        makes="predictions.jsonl",
    ),
    Known("python -m keras_ecg_mae.predict --model=NAME --server=localhost:8500 FILE..."),
    Known("python -m keras_ecg_mae.predict --model=lvsd --server=localhost:8500 FILE...", fill={"lvsd": "demo"}),
    Known("python -m keras_ecg_mae.predict --model=lvsd --server=http://localhost:8501 FILE...", fill={"lvsd": "demo"}),
    Known("python -m keras_ecg_mae.predict --model=gs://B/* --runner=DataflowRunner -- *", CLUSTER),
    Known("python -m keras_ecg_mae.inspect FILE..."),
    Known("python -m keras_ecg_mae.inspect --json FILE..."),
    Known("python -m keras_ecg_mae.inspect --draw=FOLDER FILE...", makes="folder"),
    Known("python -m keras_ecg_mae.evaluate --run=RUN --dataset=DATASET"),
    Known("python -m keras_ecg_mae.evaluate", "names the command in a sentence"),
    Known("python -m keras_ecg_mae.evaluate --run={}", fill={"{}": "runs/demo"}),
    Known(
        "python -m keras_ecg_mae.export --run=RUN --name=NAME",
        # Its classifier was exported before, under another name.
        more="--exported=autoencoder --export_batch_sizes=1",
        makes="saved_models/again/1/saved_model.pb",
    ),
    Known(
        "python -m keras_ecg_mae.export --run=RUN", more="--exported=autoencoder --export_batch_sizes=1 --name=again"
    ),
    Known("python -m keras_ecg_mae.train {} --stages={}", PRINTED),
    Known(
        "python -m keras_ecg_mae.train --flagfile=pipelines/demo.flags --run=runs/adamw *",
        "the demo's own command with the other optimizer, which most tests train with",
    ),
    Known("python -m keras_ecg_mae.train --flagfile={} --stages=finetune,evaluate", fill={"{}": "runs/demo/flags.txt"}),
    Known("python -m keras_ecg_mae.report --report_output=FOLDER --fewer_labels=RUN_A,RUN_B", EXPERIMENTS),
    Known("python -m keras_ecg_mae.report --report_output=FOLDER --paper=pipelines/paper RUN...", EXPERIMENTS),
    Known(
        "python -m keras_ecg_mae.prepare --recordings=ROOT --labels=TABLE --output=DATASET --split_column=*",
        fill={"TABLE": "folds.csv", "DATASET": "runs/folds"},
        makes="runs/folds/manifest.json",
    ),
    Known(
        "python -m keras_ecg_mae.report --report_output=FOLDER RUN... DATASET...",
        fill={"RUN...": "runs/demo", "DATASET...": "runs/demo/dataset"},
    ),
    Known(
        "python -m keras_ecg_mae.simulate --recordings=FOLDER --labels=FOLDER/labels.csv",
        fill={"FOLDER": "simulated"},
        more="--simulate_patients=3",
        makes="simulated/labels.csv",
    ),
    Known(
        "python -m keras_ecg_mae.prepare --recordings=ROOT --labels=TABLE --output=DATASET",
        fill={"DATASET": "runs/one"},
        makes="runs/one/manifest.json",
    ),
    Known(
        "python -m keras_ecg_mae.prepare {} --recordings=ROOT --labels=TABLE --output={}",
        fill={"prepare {}": "prepare --flagfile=pipelines/ds1.flags", "--output={}": "--output=runs/named"},
        makes="runs/named/manifest.json",
    ),
    Known(
        "python -m keras_ecg_mae.prepare --recordings=ROOT --labels=TABLE.csv --output=DATASET --external_*=NAME",
        fill={"DATASET": "runs/two", "NAME": "institution_2"},
        makes="runs/two/manifest.json",
    ),
    Known(
        "python -m keras_ecg_mae.train --flagfile=pipelines/ds2.flags --dataset=DATASET --run=runs/mine --name=mine *",
        more=f"{TRAINED} --stages=pretrain,finetune",  # then what it prints under Next:
        makes="runs/mine/export/done.json",
    ),
    Known("python -m keras_ecg_mae.predict --model=saved_models/mine FILE..."),
    Known(
        "python -m keras_ecg_mae.train --flagfile=pipelines/ds2.flags --dataset=DATASET --run=RUN",
        fill={"RUN": "runs/mine"},  # whose stages are done
        more=f"{TRAINED} --name=mine --title=mine",
    ),
    Known("python -m keras_ecg_mae.train --flagfile=pipelines/ds2.flags", EXPERIMENTS),
    Known("python -m keras_ecg_mae.train --flagfile=pipelines/ds[12]*.flags", EXPERIMENTS),
    Known("for NAME in ds1_cnn * do python -m keras_ecg_mae.train --flagfile=pipelines/$NAME.flags; done", EXPERIMENTS),
    Known("python -m keras_ecg_mae.report --report_output=runs/report *runs/ds1_cnn *", EXPERIMENTS),
    Known("python -m keras_ecg_mae.report", "names the command in a sentence"),
    Known(
        "python -m keras_ecg_mae.prepare --flagfile=pipelines/dataset1.flags --recordings=ROOT --labels=TABLE.csv",
        makes="runs/dataset1/manifest.json",
    ),
    Known(
        "python -m keras_ecg_mae.prepare --flagfile=pipelines/dataset2.flags --recordings=ROOT --labels=TABLE.csv",
        makes="runs/dataset2/manifest.json",
    ),
    Known(
        "python -m keras_ecg_mae.prepare --flagfile=pipelines/dataset2.flags --runner=DirectRunner -- *",
        fill={"direct_num_workers=8": "direct_num_workers=1"},
        more=f"--recordings={RECORDINGS} --labels={TABLE} --output=runs/beam",
        makes="runs/beam/manifest.json",
    ),
    Known("python -m keras_ecg_mae.prepare --flagfile=pipelines/dataset2.flags --runner=*Runner -- *", CLUSTER),
    Known("python -m keras_ecg_mae.simulate --flagfile=pipelines/paper_cohort.flags", makes="runs/paper_cohort"),
    Known("for N in 1 2; do *prepare --flagfile=pipelines/dataset$N.flags --flagfile=pipelines/paper_cohort.flags *"),
    Known(
        "python -m keras_ecg_mae.report --report_output=runs/paper_cohort/report *", makes="runs/paper_cohort/report"
    ),
    Known(
        "python -m keras_ecg_mae.prepare --flagfile=pipelines/physionet.flags --recordings=ROOT --labels=TABLE.csv",
        fill={"TABLE.csv": "rhythm.csv"},
    ),
    Known(
        "python -m keras_ecg_mae.train --flagfile=pipelines/physionet.flags",
        more=f"{TRAINED} --pretrain_validation_epochs=1",
        makes="saved_models/physionet/1/saved_model.pb",
    ),
    Known(
        "python -m keras_ecg_mae.simulate --flagfile=pipelines/label_efficiency.flags",
        more="--simulate_counts= --simulate_patients=160 --simulate_prevalence=0.4",
        makes="runs/label_efficiency/recordings/labels.csv",
    ),
    Known("python -m keras_ecg_mae.prepare --flagfile=pipelines/label_efficiency.flags"),
    Known(
        "python -m keras_ecg_mae.label_efficiency --flagfile=pipelines/label_efficiency.flags",
        more=f"{TRAINED} --study_arms=pretrained --study_label_fractions=1 --study_seeds=20",
        makes="runs/label_efficiency/label_efficiency/report/label_efficiency.png",
    ),
    Known(
        "python -m keras_ecg_mae.label_efficiency --flagfile=pipelines/label_efficiency.flags --study_*",
        "the same for days, with other arms: tests/test_label_efficiency.py has all of them",
    ),
    Known("python -m keras_ecg_mae.label_efficiency", "names the command in a sentence"),
    Known("python -m keras_ecg_mae.flags >*", "tests/test_flags.py compares what it makes"),
    Known("python -m keras_ecg_mae.COMMAND", "stands for the others"),
    Known("python pipelines/tfx_pipeline.py *", "needs TFX, in an environment of its own: `make tfx`"),
    *(
        Known(f"make {target}", "CI runs it")
        for target in ("test", "test-pythons", "lint", "types", "imports", "budgets", "site", "bazel", "tfx", "wheel")
    ),
    Known("make PYTHON=/path/to/python3.12 test", "CI runs the tests on other Pythons"),
    Known("make SET=tf221 test", "CI runs the quick ones"),
    Known("make SET=tf221 test-quick", "CI runs it"),
    Known("make SET=tf221 wheel", "CI runs it"),
    Known("make constraints", "needs a package index"),
)
KNOWN = DEMO + OTHERS
COMMANDS = ("simulate", "inspect", "prepare", "train", "evaluate", "export", "predict", "report", "label_efficiency")


def commands_in(text: str) -> Iterator[str]:
    """The commands on lines of their own: continued lines put together, prompts and comments left out."""
    for line in re.sub(r"\s*\\\n[#>\s]*|\n> *", " ", text).splitlines():
        if found := COMMAND.search(line):
            yield line[found.start() :]


def shown_in_markdown(text: str) -> Iterator[str]:
    fence = re.compile(r"^ *```\w*\n(.*?)^ *```", re.MULTILINE | re.DOTALL)
    for block in fence.findall(text):
        yield from commands_in(block)
    for code in re.findall(r"`([^`]+)`", fence.sub("", text)):
        if COMMAND.match(code):
            yield " ".join(code.split())


def shown_in_module(tree: ast.Module) -> Iterator[str]:
    """Those of the module's own text, which `--help` prints, and of its messages."""
    yield from commands_in(ast.get_docstring(tree) or "")
    inner = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            text = "".join(str(part.value) if isinstance(part, ast.Constant) else "{}" for part in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in inner:
            text = "" if node.value == ast.get_docstring(tree, clean=False) else node.value
        else:
            continue
        yield from IN_MESSAGE.findall(text)


def shown() -> dict[str, str]:
    """Every command that is shown, and where."""
    found: dict[str, str] = {}

    def add(path: Path, commands: Iterator[str]) -> None:
        for command in commands:
            text = re.sub(r"\s+# .*|[.;]?$", "", command, count=1) if not command.endswith("...") else command
            found.setdefault(re.sub(r"(?<!\S)\S*/(?=python )|\s+$", "", text), str(path.relative_to(REPOSITORY)))

    for path in (REPOSITORY / "README.md", REPOSITORY / "CONTRIBUTING.md", *sorted(REPOSITORY.glob("docs/*.md"))):
        add(path, shown_in_markdown(path.read_text()))
    for path in sorted(REPOSITORY.glob("pipelines/*.flags")):
        head = re.findall(r"^#   .*$", path.read_text(), re.MULTILINE)
        add(path, commands_in("\n".join(head)))
    for path in sorted(REPOSITORY.glob("keras_ecg_mae/**/*.py")):
        add(path, shown_in_module(ast.parse(path.read_text())))
    return found


def known(command: str) -> Known | None:
    return next((entry for entry in KNOWN if fnmatchcase(command, entry.shown)), None)


def test_every_command_that_is_shown_is_known_and_the_other_way_round() -> None:
    commands = shown()
    assert {command: place for command, place in commands.items() if known(command) is None} == {}
    used = [known(command) for command in commands]
    assert [entry.shown for entry in KNOWN if entry not in used] == []


@dataclass(frozen=True)
class Place:
    """A folder as a user has one after `git clone`, which is the working folder, and a shell in it.

    Attributes:
        read: the settings that each command has read there, as `SHOWN` names them.
    """

    folder: Path
    read: dict[str, set[str]] = field(default_factory=dict)

    def arguments(self, text: str) -> tuple[list[list[str]], str]:
        """The arguments of each `python` that a shell makes of a command line, and what the last finds on its input."""
        programs, typed = self.folder / "programs", self.folder / "typed"
        programs.mkdir(exist_ok=True)
        program = programs / "python"
        program.write_text(f"#!/bin/sh\ncat > {typed}.input\nprintf '%s\\n' \"$@\" '' >> {typed}\n")
        program.chmod(0o700)
        typed.unlink(missing_ok=True)
        environment = {**os.environ, "PATH": f"{programs}:{os.environ['PATH']}"}
        subprocess.run(["bash", "-ec", text], check=True, stdin=subprocess.DEVNULL, env=environment)
        commands = [block.splitlines() for block in typed.read_text().split("\n\n") if block]
        return commands, typed.with_suffix(".input").read_text()

    def type(self, text: str, more: str = "") -> None:
        """Types a command line, and then what it prints under `Next:`."""
        commands, entered = self.arguments(text)
        assert commands
        for _, module, *given in commands:
            flagged = sum(1 for _ in takewhile(lambda word: word.startswith("--") and word != "--", given))
            config, rest = parse(*given[:flagged], *more.split(), *given[flagged:])
            command = module.removeprefix("keras_ecg_mae.")
            output = io.StringIO()
            with redirect_stdout(output), pytest.MonkeyPatch.context() as patch:
                patch.setattr(sys, "stdin", io.StringIO(entered))
                watch(patch, config, self.read.setdefault(command, set()))
                assert program(command).main(config, rest) == 0, (module, given)
            _, _, following = output.getvalue().partition("\nNext:\n")
            for line in map(str.strip, following.splitlines()):
                if not line.startswith("tensorboard "):
                    self.type(filled(line, {}))

    def enter(self, entry: Known, fill: dict[str, str]) -> None:
        """Types what an entry stands for."""
        for command in shown():
            if known(command) == entry:
                self.type(filled(command, entry.fill | fill), entry.more)
        assert (self.folder / entry.makes).exists()


def watch(patch: pytest.MonkeyPatch, config: Config, read: set[str]) -> None:
    """Notes in `read` which settings of `config` are read, but for what checks, writes or compares whole sections."""
    names = {
        (id(getattr(config, name)), item.name): f"{name}.{item.name}"
        for name, section in flags.sections()
        for _, item in flags.settings(section)
    }

    def noted(section: Section, attribute: str) -> object:
        value = object.__getattribute__(section, attribute)
        if name := names.get((id(section), attribute)):
            reader = Path(sys._getframe(1).f_code.co_filename)
            if reader.parts[-1] not in ("config.py", "flags.py") and reader.parts[-2:] != ("runs", "fingerprint.py"):
                read.add(name)
        return value

    patch.setattr(Section, "__getattribute__", noted)


def filled(command: str, fill: dict[str, str]) -> str:
    """A command line with values for its placeholders, those of `fill` before those of `FILL`."""
    for placeholder, value in [*fill.items(), *FILL.items()]:
        command = re.sub(rf"(?<![\w/]){re.escape(placeholder)}(?!\w)", value, command)
    return command


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """Where the demo's commands were typed."""
    place = Place(tmp_path_factory.mktemp("typed"))
    shutil.copytree(REPOSITORY / "pipelines", place.folder / "pipelines")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place.folder)
        patch.setitem(ARCHITECTURES, "tiny", SMALLEST)
        for entry in DEMO:
            place.enter(entry, {})
        table = pd.read_csv(TABLE)  # and a table as docs/physionet.md describes it
        hospitals = table["institution"].replace({"institution_1": "ningbo", "institution_2": "chapman"})
        table.assign(institution=hospitals, abnormal_rhythm=(table["lvef"] < 40).astype(int)).to_csv("rhythm.csv")
        folds = pd.factorize(table["patient_id"])[0] % 10 + 1  # and one with ten folds, as docs/prepare.md has it
        table.assign(strat_fold=folds).to_csv("folds.csv", index=False)
        yield place


@pytest.fixture(scope="module")
def servers(place: Place) -> Iterator[dict[str, str]]:
    """The addresses of a model server that serves what the demo exported, by those that the texts show."""
    exported = place.folder / "saved_models" / "demo" / "1"
    command = [sys.executable, str(MODEL_SERVER), str(exported), "demo"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as served:
        assert served.stdout is not None
        grpc_port, rest_port = served.stdout.readline().split()
        yield {"localhost:8500": f"127.0.0.1:{grpc_port}", "http://localhost:8501": f"http://127.0.0.1:{rest_port}"}
        served.terminate()


@pytest.mark.slow
@pytest.mark.parametrize("entry", [known for known in OTHERS if not known.elsewhere], ids=lambda known: known.shown)
def test_it_can_be_typed(entry: Known, place: Place, request: pytest.FixtureRequest) -> None:
    place.enter(entry, request.getfixturevalue("servers") if "--server" in entry.shown else {})


@pytest.mark.slow
def test_the_python_of_the_readme_runs(place: Place) -> None:
    (block,) = re.findall(r"```python\n(.*?)```", (REPOSITORY / "README.md").read_text(), re.DOTALL)
    answer = subprocess.run([sys.executable, "-c", block], check=True, capture_output=True, text=True)
    assert re.fullmatch(r"b'institution_\S+' \(\d+, 12, 5000\) [01]\.0\n", answer.stdout)


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS)
def test_help_shows_what_the_command_reads(command: str, place: Place) -> None:
    """After the others: what they have typed has read it."""
    shown_settings = {
        f"{name}.{item.name}"
        for name, section in flags.sections()
        for _, item in flags.settings(section)
        if name in program(command).SHOWN or f"{name}.{item.name}" in program(command).SHOWN
    }
    assert place.read[command] - shown_settings == set()
    if command not in (
        "prepare",
        "train",
        "label_efficiency",
    ):  # they read much in other processes, or for models that are not made here
        read = place.read[command]
        if command in ("evaluate", "export"):  # stages of train, which had done them
            read = read | place.read["train"]
        # Files and findings decide which of these two sections' settings are looked at.
        assert {name for name in shown_settings - read if not name.startswith(("signal.", "quality."))} == set()


def test_make_demo_types_what_the_head_of_demo_flags_shows() -> None:
    # The tests may be run by a make that was given SET, which hands it on.
    alone = {name: value for name, value in os.environ.items() if name not in ("MAKEFLAGS", "MAKEOVERRIDES", "SET")}
    made = subprocess.run(
        ["make", "--dry-run", "demo"], check=True, capture_output=True, text=True, cwd=REPOSITORY, env=alone
    )
    assert [line for line in commands_in(made.stdout) if "runs/demo" in line or "/demo" in line] == [
        f".venv/bin/{entry.shown}" for entry in DEMO
    ]
