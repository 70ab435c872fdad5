"""Pages are HTML that asks no host for anything and takes no markup from the values it is filled with."""

from collections.abc import Callable
from pathlib import Path

import jinja2
import pytest

from keras_ecg_mae import pages

Write = Callable[[str, str], int]


@pytest.fixture
def templates(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """A function that writes a template beside the package's own."""
    loaders = [jinja2.PackageLoader("keras_ecg_mae.pages", ""), jinja2.FileSystemLoader(tmp_path)]
    monkeypatch.setattr(pages._TEMPLATES, "loader", jinja2.ChoiceLoader(loaders))
    return lambda name, text: (tmp_path / name).write_text(text, encoding="utf-8")


BODY = '{% extends "page.html.j2" %}{% block body %}<h1>{{ head }}</h1>{% endblock %}'


def test_values_are_escaped_in_html_and_the_page_may_load_nothing(templates: Write) -> None:
    templates("body.html.j2", BODY)
    page = pages.render("body.html.j2", title="A & B", head="<script>alert(1)</script>")
    assert "<h1>&lt;script&gt;alert(1)&lt;/script&gt;</h1>" in page
    assert "<title>A &amp; B</title>" in page
    assert "default-src 'none'" in page
    assert page.startswith("<!DOCTYPE html>")
    assert page.endswith("</html>\n")


def test_values_stay_as_they_are_in_markdown(templates: Write) -> None:
    templates("note.md.j2", "{{ text }}\n")
    assert pages.render("note.md.j2", text="LVEF < 40%") == "LVEF < 40%\n"


def test_a_value_that_is_not_given_is_an_error(templates: Write) -> None:
    templates("body.html.j2", BODY)
    with pytest.raises(jinja2.UndefinedError, match="head"):
        pages.render("body.html.j2", title="t")
