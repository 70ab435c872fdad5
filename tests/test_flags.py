"""Settings, flags, flag files and the documentation table: one source."""

import re
import subprocess
import sys
from dataclasses import fields, replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keras_ecg_mae import flags as package_flags
from keras_ecg_mae.config import Cohort, Config, Finetuning, Model, Pretraining, Training
from keras_ecg_mae.errors import ConfigError

REPOSITORY = Path(__file__).resolve().parent.parent


def parse(*arguments: str) -> Config:
    return package_flags.config_from_arguments(arguments)


def test_without_flags_every_setting_has_its_default() -> None:
    assert parse() == Config()


def test_flags_set_the_tree() -> None:
    config = parse(
        "--size=tiny", "--finetune_learning_rates=1e-3,5e-4", "--external_institutions=b,c", "--pretrain_time_shift"
    )
    assert config.model.size == "tiny"
    assert config.finetuning.learning_rates == (1e-3, 5e-4)
    assert config.cohort.external_institutions == ("b", "c")
    assert config.pretraining.time_shift


@given(
    size=st.sampled_from(["tiny", "small", "base", "large", "huge"]),
    rates=st.lists(st.floats(1e-9, 10), min_size=1, max_size=4, unique=True),
    institutions=st.lists(st.text("abcdefghij_-0123456789", min_size=1), max_size=3),
    shift=st.booleans(),
    decay=st.floats(0, 1),
    run=st.text("abc/._- =#", max_size=10).map(lambda text: "r" + text + "r"),
)
def test_flags_txt_gives_the_same_settings_back(
    tmp_path_factory: pytest.TempPathFactory,
    size: str,
    rates: list[float],
    institutions: list[str],
    shift: bool,
    decay: float,
    run: str,
) -> None:
    config = Config(
        cohort=Cohort(external_institutions=tuple(institutions)),
        model=Model(size=size),  # type: ignore[arg-type]  # drawn from the choices
        training=Training(run=run),
        pretraining=Pretraining(time_shift=shift, weight_decay=decay),
        finetuning=Finetuning(learning_rates=tuple(rates)),
    )
    path = tmp_path_factory.mktemp("flags") / "flags.txt"
    path.write_text(package_flags.flag_lines(config))
    assert parse(f"--flagfile={path}") == config


def test_an_unknown_flag_is_refused() -> None:
    with pytest.raises(ConfigError, match="pretrain_epoch"):
        parse("--pretrain_epoch=3")


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("--size=giant", r"Expected --size to be one of tiny, small, base, large, huge. Received 'giant'"),
        ("--mask_ratio=1", r"Expected --mask_ratio to lie between 0 and 1. Received 1.0"),
        ("--train_fraction=0.9", r"Expected --validation_fraction .* 1 - train_fraction = 0.1. Received 0.15"),
        ("--pretrain_epochs=40", r"Expected --pretrain_warmup_epochs .*under the epochs. Received 40.0"),
        ("--stages=finetune,pretrain", r"Expected --stages to be in the order pretrain,finetune"),
        ("--stages=pretrain,test", r"Expected --stages to be among pretrain,finetune,evaluate,export"),
        ("--finetune_learning_rates=1e-4,x", r"Expected --finetune_learning_rates .*Received 'x'"),
        ("--finetune_learning_rates=1e-4,1e-4", r"Expected --finetune_learning_rates to differ"),
        ("--name=a/b", r"Expected --name to be one folder's name. Received 'a/b'"),
    ],
)
def test_a_setting_out_of_range_is_one_sentence(argument: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse(argument)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            "mae --finetune_epochs=5",
            r"epochs to be left out .*=mae: give --finetune_mae_epochs\. Received 5",
        ),
        ("mae --finetune_patience=3", r"patience .*=mae: give --finetune_mae_epochs, since .*Received 3"),
        (
            "mae --finetune_learning_rates=1e-3",
            r"_rates .*: give --finetune_mae_base_learning_rate\. Received \(0.001,",
        ),
        ("paper --finetune_mae_epochs=7", r"mae_epochs .*=paper: give --finetune_epochs, or --finetune_recipe=mae "),
        ("paper --finetune_mae_base_learning_rate=1", r"give --finetune_learning_rates, or --finetune_recipe=mae"),
        ("paper --finetune_mae_warmup_epochs=1", r"_warmup_epochs to be left out .*: give --finetune_recipe=mae with"),
        ("paper --finetune_mae_weight_decay=0", r"_weight_decay to be left out .*: give --finetune_recipe=mae with"),
        ("paper --finetune_mae_layer_decay=1", r"_layer_decay to be left out .*: give --finetune_recipe=mae with"),
        ("paper --finetune_mae_drop_path=0", r"_drop_path to be left out .*: give --finetune_recipe=mae with"),
    ],
)
def test_a_setting_of_the_other_recipe_is_refused_with_what_to_give_instead(arguments: str, message: str) -> None:
    recipe, flag = arguments.split()
    with pytest.raises(ConfigError, match=f"Expected --finetune_.*{message}"):
        parse(f"--finetune_recipe={recipe}", flag)


def test_settings_of_the_recipe_are_taken(tmp_path: Path) -> None:
    flag = "--finetune_mae_epochs=7"
    config = parse("--finetune_recipe=mae", flag, "--finetune_batch_size=8")
    assert config.mae_finetuning.epochs == 7
    # Its flags.txt holds the other recipe's too, with their defaults.
    (tmp_path / "flags.txt").write_text(package_flags.flag_lines(config))
    assert parse(f"--flagfile={tmp_path / 'flags.txt'}") == config


def test_every_setting_is_documented_and_flags_are_unique() -> None:
    names = [name for _, section in package_flags.sections() for name, _ in package_flags.settings(section)]
    assert len(names) == len(set(names))
    for _, section in package_flags.sections():
        for item in fields(section):  # type: ignore[arg-type]  # every section is a dataclass
            assert len(item.metadata["doc"]) > 10, item.name


def test_the_settings_page_is_current() -> None:
    assert (REPOSITORY / "docs" / "settings.md").read_text() == package_flags.settings_table(), (
        "run python -m keras_ecg_mae.flags > docs/settings.md"
    )


@pytest.mark.parametrize("path", sorted((REPOSITORY / "pipelines").glob("*.flags")), ids=lambda path: path.name)
def test_every_flag_file_resolves(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(REPOSITORY)
    assert path.read_text().startswith("#")
    assert parse(f"--flagfile={path}") != replace(Config())


def test_the_papers_settings_are_those_of_the_paper(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(REPOSITORY)
    for name in ("ds1", "ds2"):
        config = parse(f"--flagfile=pipelines/{name}.flags")
        assert (config.model.size, config.model.mask_ratio) == ("large", 0.75)
        assert (config.pretraining.epochs, config.pretraining.batch_size) == (1600, 1024)
        assert config.pretraining.splits == ("train", "validation", "test")
        assert config.finetuning.learning_rates == (1e-4, 3e-5, 1e-5)
        assert config.training.precision == "mixed_bfloat16"


@pytest.mark.parametrize(
    "command", ["simulate", "inspect", "prepare", "train", "evaluate", "export", "predict", "report"]
)
def test_help_says_what_the_command_does_and_lists_its_flags(command: str) -> None:
    answer = subprocess.run(
        [sys.executable, "-m", f"keras_ecg_mae.{command}", "--help"],
        check=False,
        capture_output=True,
        text=True,
        cwd=REPOSITORY,
    )
    assert f"python -m keras_ecg_mae.{command} --" in answer.stdout
    shown = set(re.findall(r"--(?:\[no\])?(\w+)", answer.stdout))
    expected = {
        "simulate": {"simulate_patients", "recordings", "labels"},
        "inspect": {"draw", "quality_reject", "long_recordings", "max_flat_leads"},
        "prepare": {"recordings", "labels", "output", "quality_reject", "signal_unit"},
        "train": {"size", "pretrain_epochs", "finetune_mae_epochs", "export_minimum_auroc"},
        "evaluate": {"run", "dataset", "confidence"},
        "export": {"run", "dataset", "name"},
        "predict": {"model", "dataset", "runner", "signal_unit"},
        "report": {"report_output"},
    }
    assert expected[command] <= shown
    hidden = {"simulate": "lvef_column", "inspect": "labels", "evaluate": "stages", "export": "seed", "predict": "run"}
    assert hidden.get(command, "size" if command != "train" else "recordings") not in shown
