"""What docs/paper.md names: modules, tests, flags and flag files must be there."""

import re
from pathlib import Path

from keras_ecg_mae import flags

REPOSITORY = Path(__file__).resolve().parent.parent
PAGE = (REPOSITORY / "docs" / "paper.md").read_text()


def test_every_module_and_test_that_the_page_on_the_paper_names_is_there() -> None:
    names = set(re.findall(r"[\w/]+\.py\b", PAGE))
    assert len(names) > 50
    folders = (REPOSITORY, REPOSITORY / "keras_ecg_mae", REPOSITORY / "tests")
    assert [name for name in sorted(names) if not any((folder / name).is_file() for folder in folders)] == []


def test_every_flag_that_it_names_is_a_setting() -> None:
    known = {flag for _, section in flags.sections() for flag, _ in flags.settings(section)} | {"flagfile"}
    # `--pretrain_` stands for all settings that begin so.
    names = set(re.findall(r"--([a-z]\w*)", PAGE))
    assert len(names) > 30
    assert [name for name in sorted(names) if not any(flag == name or _begins(flag, name) for flag in known)] == []


def _begins(flag: str, name: str) -> bool:
    return name.endswith("_") and flag.startswith(name)


def test_every_file_of_pipelines_that_it_names_is_there() -> None:
    names = set(re.findall(r"\w+\.flags", PAGE)) | set(re.findall(r"pipelines/(paper/\w+\.csv)", PAGE))
    assert len(names) > 8
    assert [name for name in sorted(names) if not (REPOSITORY / "pipelines" / name).is_file()] == []
