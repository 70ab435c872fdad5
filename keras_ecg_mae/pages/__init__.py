"""Templates of the pages that people read, and the one function that fills them in."""

from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape

from keras_ecg_mae.pages.tables import markdown, percent

_TEMPLATES = Environment(
    loader=FileSystemLoader(Path(__file__).parent),
    # Names of institutions and files may hold markup. Markdown is escaped by those who know which text is whose.
    autoescape=select_autoescape(disabled_extensions=("md.j2",), default=True),
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    keep_trailing_newline=True,
)
_TEMPLATES.filters |= {"markdown": markdown, "percent_of": percent, "thousands": "{:,}".format}


def render(name: str, **values: Any) -> str:
    """The template `name` of this folder, such as `page.html.j2`, with `values` filled in.

    Every value is escaped in HTML and left as it is in Markdown (`.md.j2`), where the filter `markdown` escapes it. A
    value that the template names and that is not given raises `jinja2.UndefinedError`.
    """
    return _TEMPLATES.get_template(name).render(values)
