"""Settings, flags, flag files and the documentation table: one source."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
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


@settings(max_examples=15)  # each defines every flag
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
    ("arguments", "named"),
    [
        # A choice, a bound to either side, each element of a list.
        ("--size=giant", "--size to be one of tiny, small, base, large, huge. Received 'giant'"),
        ("--mask_ratio=1", "--mask_ratio to be above 0 and below 1. Received 1.0"),
        ("--mask_ratio=nan", "--mask_ratio .*Received nan"),
        ("--train_fraction=1.5", "--train_fraction to be above 0 and at most 1"),
        ("--stages=pretrain,test", "--stages to be each one of pretrain, finetune, evaluate, export"),
        ("--export_batch_sizes=0,2", "--export_batch_sizes to be each at least 1"),
        ("--finetune_learning_rates=1e-4,x", "--finetune_learning_rates .*Received 'x'"),
        # Settings that limit each other.
        ("--simulate_patients=2", "--simulate_institutions .*Received 3"),
        ("--train_fraction=0.9", "--validation_fraction .* 1 - train_fraction = 0.1. Received 0.15"),
        ("--pretrain_epochs=40", "--pretrain_warmup_epochs .*Received 40.0"),
        ("--finetune_recipe=mae --finetune_mae_epochs=5", "--finetune_mae_warmup_epochs .*Received 5.0"),
        ("--quality_largest_mv=0.01", "--quality_largest_mv .*--quality_smallest_mv"),
        ("--stages=finetune,pretrain", "--stages .*pretrain,finetune"),
        ("--pretrain_splits=", "--pretrain_splits"),
        ("--finetune_learning_rates=1e-4,1e-4", "--finetune_learning_rates"),
        ("--export_batch_sizes=4,2", "--export_batch_sizes"),
        ("--exported=autoencoder --export_precision=mixed_bfloat16", "--export_precision .*--exported"),
        ("--name=a/b", "--name .*'a/b'"),
        ("--signal_unit=mmHg", "--signal_unit .*'mmHg'"),
        ("--predictions=p", "--format .*--predictions"),
        ("--finetune_transfer=blocks", "--finetune_transfer"),
        # A CNN has no such settings.
        ("--architecture=cnn --finetune_encoder=random", "--stages .*without pretrain"),
        ("--architecture=cnn --stages=finetune", "--finetune_encoder .*random"),
        ("--architecture=cnn --stages=finetune --finetune_encoder=random --xla", "--xla .*CNN"),
    ],
)
def test_a_setting_that_cannot_be_is_one_sentence(arguments: str, named: str) -> None:
    with pytest.raises(ConfigError, match=f"^Expected {named}"):
        parse(*arguments.split())


@pytest.mark.parametrize(
    "server",
    ["http://a:secret@host:8501", "a:secret@host:8500", "host", "ftp://host", "http://host:8501/v1/models/lvsd"],
)
def test_an_address_that_is_none_is_not_repeated(server: str) -> None:
    with pytest.raises(ConfigError, match="--server") as refused:
        parse(f"--server={server}")
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize(
    ("recipe", "flag", "instead"),
    [
        ("mae", "finetune_epochs=5", "finetune_mae_epochs"),
        ("mae", "finetune_patience=3", "never ended early"),
        ("mae", "finetune_learning_rates=1e-3", "finetune_mae_base_learning_rate"),
        ("paper", "finetune_mae_epochs=7", "finetune_epochs"),
        ("paper", "finetune_mae_base_learning_rate=1", "finetune_learning_rates"),
        ("paper", "finetune_mae_drop_path=0", "finetune_recipe=mae"),
    ],
)
def test_a_setting_of_the_other_recipe_is_refused_with_what_to_give_instead(
    recipe: str, flag: str, instead: str
) -> None:
    with pytest.raises(ConfigError, match=f"--{flag.split('=')[0]} .*--finetune_recipe={recipe}.*{instead}"):
        parse(f"--finetune_recipe={recipe}", f"--{flag}")


def test_settings_of_the_recipe_are_taken(tmp_path: Path) -> None:
    flag = "--finetune_mae_epochs=7"
    config = parse("--finetune_recipe=mae", flag, "--finetune_batch_size=8")
    assert config.mae_finetuning.epochs == 7
    # Its flags.txt holds the other recipe's too, with their defaults.
    (tmp_path / "flags.txt").write_text(package_flags.flag_lines(config))
    assert parse(f"--flagfile={tmp_path / 'flags.txt'}") == config


def test_every_setting_is_documented_and_flags_are_unique() -> None:
    pairs = [pair for _, section in package_flags.sections() for pair in package_flags.settings(section)]
    assert len({name for name, _ in pairs}) == len(pairs)
    assert [name for name, item in pairs if len(item.metadata["doc"]) <= 10] == []


def test_the_settings_page_is_current() -> None:
    assert (REPOSITORY / "docs" / "settings.md").read_text() == package_flags.settings_table(), (
        "run python -m keras_ecg_mae.flags > docs/settings.md"
    )


@pytest.mark.parametrize("path", sorted((REPOSITORY / "pipelines").glob("*.flags")), ids=lambda path: path.name)
def test_every_flag_file_resolves(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(REPOSITORY)
    assert path.read_text().startswith("#")
    assert parse(f"--flagfile={path}") != Config()


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
    "command",
    ["simulate", "inspect", "prepare", "train", "evaluate", "export", "predict", "report", "label_efficiency"],
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
        "label_efficiency": {"study_arms", "study_seeds", "finetune_epochs"},
    }
    assert answer.returncode == 0
    assert expected[command] <= shown
    texts = " ".join(answer.stdout.split())
    assert command != "train" or "pretraining. Above 0 and below 1. (default: 0.75)" in texts
    assert command != "prepare" or "\nEchocardiograms (prepare):\n  --echoes: " in answer.stdout
    hidden = {
        "label_efficiency": "recordings",
        "simulate": "lvef_column",
        "inspect": "labels",
        "evaluate": "stages",
        "export": "seed",
        "predict": "run",
    }
    assert hidden.get(command, "size" if command != "train" else "recordings") not in shown
