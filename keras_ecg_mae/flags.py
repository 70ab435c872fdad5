"""Turns the settings of `config.py` into absl flags and back.

Every command knows every flag, so that one flag file describes an experiment from files to served model;
`--help` of a command shows those it uses.
"""

import sys
from collections.abc import Iterator, Sequence
from dataclasses import Field, fields
from textwrap import wrap
from typing import Any, get_args

from absl import flags

from keras_ecg_mae.config import Config, Section, describe_range
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


def define_flags(values: flags.FlagValues = FLAGS) -> None:
    """Defines a flag for every setting."""
    for _, section in sections():
        for flag, item in settings(section):
            if flag not in values:
                _define(flag, item, values)


def help_text(shown: Sequence[str]) -> str:
    """What `--help` lists: the settings of `shown`, which are sections' names, or `section.setting`, by heading."""
    lines = []
    for name, section in sections():
        for heading, items in _by_heading(section):
            used = [pair for pair in items if name in shown or f"{name}.{pair[1].name}" in shown]
            lines += [f"\n{heading}:"] if used else []
            for flag, item in used:
                words = f"--{'[no]' if isinstance(item.default, bool) else ''}{flag}: {_doc(item)}"
                words += f" (default: {_text(item.default)})" if item.default not in ("", ()) else ""
                lines += wrap(words, 100, initial_indent="  ", subsequent_indent="      ", break_on_hyphens=False)
    return "\n".join(lines) + "\n"


def config_from_flags(values: flags.FlagValues = FLAGS) -> Config:
    """The settings of a parsed command line. Raises `ConfigError` where one is out of range."""
    parts: dict[str, Any] = {name: _section_from_flags(section, values) for name, section in sections()}
    return Config(**parts)


def config_from_arguments(arguments: Sequence[str]) -> Config:
    """The settings of flags that did not come by this process's command line, flag files included.

    Raises:
        ConfigError: a flag that is unknown or out of range.
    """
    values = flags.FlagValues()
    define_flags(values)
    try:
        rest = values(["", *arguments])[1:]
    except flags.Error as error:
        raise ConfigError(f"Expected flags of this package. Received: {error}") from error
    if rest:
        raise ConfigError(f"Expected flags only. Received {rest[0]!r}.")
    return config_from_flags(values)


def flag_lines(config: Config) -> str:
    """Every resolved setting, in the form `--flagfile` loads."""
    lines = []
    for name, section in sections():
        for heading, items in _by_heading(section):
            lines.append(f"# {heading}")
            lines += [f"--{flag}={_text(getattr(getattr(config, name), item.name))}" for flag, item in items]
    return "\n".join(lines) + "\n"


def settings_table() -> str:
    """The documentation of every setting, as Markdown."""
    lines = ["# Settings", "", "Made by `python -m keras_ecg_mae.flags > docs/settings.md`; do not edit.", ""]
    for _, section in sections():
        for heading, items in _by_heading(section):
            lines += [f"## {heading}", "", "| flag | default | meaning |", "|---|---|---|"]
            for flag, item in items:
                default = _text(item.default)
                lines.append(f"| `--{flag}` | {f'`{default}`' if default else ''} | {_doc(item)} |")
            lines.append("")
    return "\n".join(lines)


def _by_heading(section: type[Section]) -> Iterator[tuple[str, list[tuple[str, "Field[Any]"]]]]:
    """The settings of a section, under its title and the headings in it."""
    heading = section.TITLE
    items: list[tuple[str, Field[Any]]] = []
    for flag, item in settings(section):
        if item.metadata["heading"]:
            yield heading, items
            heading, items = item.metadata["heading"], []
        items.append((flag, item))
    yield heading, items


def _define(flag: str, item: "Field[Any]", values: flags.FlagValues) -> None:
    default: Any = item.default
    doc = _doc(item)
    if isinstance(default, bool):
        flags.DEFINE_bool(flag, default, doc, flag_values=values)
    elif isinstance(default, int):
        flags.DEFINE_integer(flag, default, doc, flag_values=values)
    elif isinstance(default, float):
        flags.DEFINE_float(flag, default, doc, flag_values=values)
    elif isinstance(default, tuple):
        flags.DEFINE_list(flag, [_text(value) for value in default], doc, flag_values=values)
    else:
        flags.DEFINE_string(flag, default, doc, flag_values=values)


def _section_from_flags(section: type[Section], flag_values: flags.FlagValues) -> Section:
    values = {}
    for flag, item in settings(section):
        value: Any = flag_values[flag].value
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
    allowed = describe_range(item)
    return item.metadata["doc"] + (f" {allowed[0].upper()}{allowed[1:]}." if allowed else "")


def _text(value: Any) -> str:
    if isinstance(value, tuple):
        return ",".join(_text(element) for element in value)
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) and float(f"{value:g}") == value else str(value)


if __name__ == "__main__":
    sys.stdout.write(settings_table())
