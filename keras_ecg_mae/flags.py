"""Turns the settings of `config.py` into absl flags and back.

Every command knows every flag, so that one flag file describes an experiment from files to served model;
`--help` of a command shows the flags of the sections it uses.
"""

import sys
from collections.abc import Iterator, Sequence
from dataclasses import Field, fields
from typing import Any, Literal, get_args, get_origin

from absl import flags

from keras_ecg_mae.config import Config, Section
from keras_ecg_mae.errors import ConfigError

FLAGS = flags.FLAGS


def sections() -> Iterator[tuple[str, type[Section]]]:
    """The sections of `Config`: name of the field, class."""
    for item in fields(Config):
        yield item.name, item.type  # type: ignore[misc]  # each field of Config is a Section


def settings(section: type[Section]) -> Iterator[tuple[str, "Field[Any]"]]:
    """The settings of a section: name of the flag, field."""
    for item in fields(section):  # type: ignore[arg-type]  # every subclass is a dataclass
        yield section.flag(item.name), item


def define_flags(shown: Sequence[str]) -> None:
    """Defines a flag for every setting; `--help` shows those of the sections named in `shown`."""
    for name, section in sections():
        for flag, item in settings(section):
            if flag not in FLAGS:
                _define(flag, item)
            if name in shown:
                FLAGS.register_key_flag_for_module(sys.argv[0], FLAGS[flag])


def config_from_flags() -> Config:
    """The settings of the parsed command line. Raises `ConfigError` where one is out of range."""
    parts: dict[str, Any] = {name: _section_from_flags(section) for name, section in sections()}
    return Config(**parts)


def flag_lines(config: Config) -> str:
    """Every resolved setting, in the form `--flagfile` loads."""
    lines = []
    for name, section in sections():
        lines.append(f"# {section.TITLE}")
        for flag, item in settings(section):
            lines.append(f"--{flag}={_text(getattr(getattr(config, name), item.name))}")
    return "\n".join(lines) + "\n"


def settings_table() -> str:
    """The documentation of every setting, as Markdown."""
    lines = ["# Settings", "", "Made by `python -m keras_ecg_mae.flags > docs/settings.md`; do not edit.", ""]
    for _, section in sections():
        lines += [f"## {section.TITLE}", "", "| flag | default | meaning |", "|---|---|---|"]
        for flag, item in settings(section):
            default = _text(item.default)
            lines.append(f"| `--{flag}` | {f'`{default}`' if default else ''} | {_doc(item)} |")
        lines.append("")
    return "\n".join(lines)


def _define(flag: str, item: "Field[Any]") -> None:
    default: Any = item.default
    doc = _doc(item)
    if isinstance(default, bool):
        flags.DEFINE_bool(flag, default, doc)
    elif isinstance(default, int):
        flags.DEFINE_integer(flag, default, doc)
    elif isinstance(default, float):
        flags.DEFINE_float(flag, default, doc)
    elif isinstance(default, tuple):
        flags.DEFINE_list(flag, [_text(value) for value in default], doc)
    else:
        flags.DEFINE_string(flag, default, doc)


def _section_from_flags(section: type[Section]) -> Section:
    values = {}
    for flag, item in settings(section):
        value: Any = FLAGS[flag].value
        if isinstance(item.default, tuple):
            value = tuple(_element(flag, text, get_args(item.type)[0]) for text in value)
        values[item.name] = value
    return section(**values)


def _element(flag: str, text: str, kind: type) -> Any:
    try:
        return kind(text)
    except ValueError:
        raise ConfigError(f"Expected --{flag} to be numbers with commas between. Received {text!r}.") from None


def _doc(item: "Field[Any]") -> str:
    choices = f" One of {', '.join(get_args(item.type))}." if get_origin(item.type) is Literal else ""
    return item.metadata["doc"] + choices


def _text(value: Any) -> str:
    if isinstance(value, tuple):
        return ",".join(_text(element) for element in value)
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) and float(f"{value:g}") == value else str(value)


if __name__ == "__main__":
    sys.stdout.write(settings_table())
