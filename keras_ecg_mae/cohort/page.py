"""Who is in a dataset, who was left out of it and why, as one HTML page that needs nothing else."""

import html
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from keras_ecg_mae.cohort.description import CohortDescription, Distribution, pooled
from keras_ecg_mae.cohort.table_problems import TABLE_PROBLEMS
from keras_ecg_mae.config import SPLITS
from keras_ecg_mae.errors import REASONS

COHORT_PAGE = "cohort.html"
_NOTHING = "\u2013"  # a dash

# System fonts and colours only: the page asks no host for anything, and may not.
_STYLE = """
:root { --ink: #1b1e28; --pale: #5d6272; --line: #dfe2ea; --head: #f5f7fa; --bar: #c9dcf3; }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 72rem; padding: 2.5rem 1.5rem 4rem; color: var(--ink); background: #fff;
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", "Helvetica Neue", Arial, "Noto Sans JP", sans-serif; }
h1 { font-size: 1.8rem; line-height: 1.2; margin: 0 0 1.4rem; }
h2 { font-size: 1.15rem; margin: 2.6rem 0 .6rem; }
p { margin: .5rem 0; max-width: 46rem; color: var(--pale); font-size: .9rem; }
dl { display: flex; flex-wrap: wrap; gap: .8rem; margin: 0; }
dl div { flex: 1 1 9rem; padding: .8rem 1rem; border: 1px solid var(--line); border-radius: 6px;
  background: var(--head); }
dt { color: var(--pale); font-size: .85rem; }
dd { margin: 0; font-size: 1.5rem; font-weight: 600; font-variant-numeric: tabular-nums; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: .88rem; font-variant-numeric: tabular-nums; }
th, td { padding: .45rem .7rem; text-align: right; vertical-align: top; white-space: nowrap; }
thead th { border-bottom: 1.5px solid var(--ink); vertical-align: bottom; }
tbody tr { border-bottom: 1px solid var(--line); }
tr.sum { font-weight: 600; background: var(--head); }
th:first-child, .text { text-align: left; }
td.text { white-space: normal; }
code { white-space: nowrap; }
tbody th { font-weight: inherit; }
th.split { padding-left: 1.7rem; color: var(--pale); }
td.bar { min-width: 9rem; background: linear-gradient(90deg, var(--bar) var(--share), transparent var(--share))
  no-repeat .4rem 100% / calc(100% - .8rem) 4px; padding-bottom: .65rem; }
code { font-family: ui-monospace, "Cascadia Mono", Menlo, Consolas, monospace; font-size: .92em; }
.settings { columns: 18rem; margin: 0; padding: 0; list-style: none; font-size: .88rem; }
.settings code { white-space: normal; overflow-wrap: anywhere; }
@media print { body { max-width: none; padding: 0; font-size: 11px; } .scroll { overflow: visible; }
  tr { break-inside: avoid; } td.bar, tr.sum, dl div { print-color-adjust: exact; } }
"""


@dataclass(frozen=True)
class _Group:
    """The recordings of an institution or of all, in a split or in all."""

    ecgs: int
    patients: int
    positive: int
    labelled: int
    age: Distribution
    lvef: Distribution
    sex: Mapping[str, int]


def cohort_page(description: CohortDescription, settings: Mapping[str, Any], title: str) -> str:
    """The page: by institution and split, who was left out, what was wrong in the table, pairs, settings.

    Args:
        description: of the dataset, or of its table.
        settings: the settings it was made with, by the names of their flags.
        title: the page's head.
    """
    return "\n".join(_lines(description, settings, title)) + "\n"


def _lines(description: CohortDescription, settings: Mapping[str, Any], title: str) -> Iterator[str]:
    yield '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">'
    yield "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">"
    yield '<meta name="viewport" content="width=device-width, initial-scale=1">'
    yield f"<title>{html.escape(title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>"
    yield f"<h1>{html.escape(title)}</h1>\n<main>"
    yield from _overview(description)
    yield from _by_institution(description)
    yield from _left_out(description)
    yield from _problems(description.table.get("problems", ()))
    if description.table.get("pairing"):
        yield from _pairing(description.table["pairing"])
    yield '<h2>Settings</h2>\n<ul class="settings">'
    yield from (f"<li><code>--{_cell(name)}={_cell(_flag(value))}</code></li>" for name, value in settings.items())
    yield "</ul>\n</main>\n</body>\n</html>"


def _overview(description: CohortDescription) -> Iterator[str]:
    group = _group(description, None, None)
    numbers = [
        ("ECGs", f"{group.ecgs:,}"),
        ("patients", f"{group.patients:,}"),
        ("institutions", f"{len(description.institutions):,}"),
        ("ECGs left out", f"{sum(description.rejected.values()):,}"),
    ]
    if description.label_name:
        share = f"positive ({description.label_name}), of {group.labelled:,} labelled"
        numbers.insert(3, (share, _percent(group.positive, group.labelled)))
    yield "<dl>"
    yield from (f"<div><dt>{_cell(name)}</dt><dd>{number}</dd></div>" for name, number in numbers)
    yield "</dl>"


def _by_institution(description: CohortDescription) -> Iterator[str]:
    whole = _group(description, None, None)
    words = sorted(whole.sex, key=lambda word: (word == "", word))
    label = [f"Positive ({description.label_name})"] if description.label_name else []
    lvef = ["LVEF in %, mean (SD)"] if whole.lvef.known else []
    sexes = [f"Sex {word or 'unknown'}" for word in words]
    heads = ["Institution", "ECGs", "Patients", *label, "Age, mean (SD)", *sexes, *lvef]

    def row(name: str, group: _Group, kind: str) -> str:
        cells = [f"{group.ecgs:,}", f"{group.patients:,}"]
        cells += [f"{group.positive:,} ({_percent(group.positive, group.labelled)})"] if label else []
        cells += [_mean(group.age), *(_percent(group.sex.get(word, 0), group.ecgs) for word in words)]
        cells += [_mean(group.lvef)] if lvef else []
        share = f'<td class="bar" style="--share: {group.ecgs / max(whole.ecgs, 1):.1%}">{cells[0]}</td>'
        rest = "".join(f"<td>{_cell(cell)}</td>" for cell in cells[1:])
        opening = f'<tr class="{kind}"><th scope="row" class="{kind}">'
        return f"{opening}{_cell(name)}</th>{share}{rest}</tr>"

    rows = []
    for institution in description.institutions:
        external = ", external" if institution in description.external_institutions else ""
        rows.append(row(institution + external, _group(description, institution, None), "sum"))
        rows += [
            row(split, _group(description, institution, split), "split")
            for split in SPLITS
            if description.count(split, institution=institution)
        ]
    if len(description.institutions) > 1:
        rows += [row(f"all, {split}", _group(description, None, split), "sum") for split in SPLITS]
    yield "<h2>By institution and split</h2>"
    yield from _table(heads, rows)
    yield (
        "<p>Age, sex and LVEF are counted per ECG, not per patient; SD is the sample standard deviation. The bar is "
        f"the share of all ECGs. {_patients(description.table)}"
        + (" Positive: in brackets as a share of the labelled ECGs.</p>" if label else "</p>")
    )


def _patients(table: Mapping[str, Any]) -> str:
    """In how many splits a patient is, which the table's ids decide."""
    whole = "A patient, by the table's ids, is in one split only; one of two institutions counts at each."
    if not (without := table.get("without_patient_id", 0)):
        return whole
    return (
        f"{whole} <strong>Of {without:,} ECGs the table names no patient: each counts as a patient of its own, so what "
        "is trained on may be of those tested on.</strong>"
    )


def _left_out(description: CohortDescription) -> Iterator[str]:
    rows = [
        f'<tr><td class="text"><code>{_cell(reason)}</code></td>'
        f'<td class="text">{_cell(REASONS.get(reason, ""))}</td><td>{count:,}</td></tr>'
        for reason, count in sorted(description.rejected.items(), key=lambda item: (-item[1], item[0]))
    ]
    not_chosen = description.table.get("not_chosen", 0)
    if rows or not_chosen:
        yield "<h2>Left out</h2>"
    if rows:
        yield from _table(("Reason", "", "ECGs"), rows, texts=2)
        yield "<p>One by one they are in <code>rejected.csv</code>.</p>"
    if not_chosen:
        yield f"<p>{not_chosen:,} more are of patients of whom another ECG was taken.</p>"


def _problems(problems: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    if not problems:
        return
    yield "<h2>Wrong or doubtful in the table</h2>"
    rows = (
        f'<tr><td class="text"><code>--{_cell(found["table"])}</code></td>'
        f'<td class="text">{_cell(found["column"])}</td><td class="text">{_cell(found["problem"])}</td>'
        f'<td class="text">{_cell(found["consequence"])}</td>'
        f"<td>{found['rows']:,}</td><td>{found['first_row']:,}</td></tr>"
        for found in problems
    )
    yield from _table(("Table", "Column", "Problem", "Consequence", "Rows", "First row"), rows, texts=4)
    yield f"<p>One by one they are in <code>{TABLE_PROBLEMS}</code>.</p>"


def _pairing(pairing: Mapping[str, Any]) -> Iterator[str]:
    days = pairing["window_days"]
    median = "" if pairing["median_days"] is None else f" (median: {pairing['median_days']:g})"
    numbers = [
        (f"paired with an echocardiogram at most {days:,} days away{median}", pairing["paired"]),
        ("of these on the same day", pairing["same_day"]),
        ("of patients whose echocardiograms are all further away", pairing["outside_window"]),
        ("of patients without a usable echocardiogram", pairing["without_echo"]),
        ("without a date", pairing["without_date"]),
    ]
    yield "<h2>ECGs and echocardiograms</h2>"
    rows = (
        f'<tr><td class="text">{_cell(what)}</td><td>{count:,}</td><td>{_percent(count, pairing["ecgs"])}</td></tr>'
        for what, count in numbers
    )
    yield from _table(("ECGs", "", "of all"), rows)
    yield (
        f"<p>Counted over {pairing['ecgs']:,} rows of the table, before any recording was opened or one of a patient "
        f"chosen. Of {pairing['echoes']:,} echocardiograms {pairing['usable_echoes']:,} have a patient, a date and an "
        "ejection fraction and contradict no other.</p>"
    )


def _table(heads: Sequence[str], rows: Iterable[str], texts: int = 1) -> Iterator[str]:
    yield '<div class="scroll"><table>'
    if heads:
        cells = "".join(
            f'<th scope="col"{" class=text" if column < texts else ""}>{_cell(head)}</th>'
            for column, head in enumerate(heads)
        )
        yield f"<thead><tr>{cells}</tr></thead>"
    yield "<tbody>"
    yield from rows
    yield "</tbody></table></div>"


def _group(description: CohortDescription, institution: str | None, split: str | None) -> _Group:
    counts = [c for c in description.counts if institution in (None, c.institution) and split in (None, c.split)]
    parts = [
        part
        for part in description.characteristics
        if institution in (None, part.institution) and split in (None, part.split)
    ]
    sex: dict[str, int] = {}
    for part in parts:
        for word, count in part.sex.items():
            sex[word] = sex.get(word, 0) + count
    positive = sum(count.positive for count in counts)
    return _Group(
        ecgs=description.count(split, institution=institution),
        patients=sum(count.patients for count in counts),
        positive=positive,
        labelled=positive + sum(count.negative for count in counts),
        age=pooled(part.age for part in parts),
        lvef=pooled(part.lvef for part in parts),
        sex=sex,
    )


def _mean(values: Distribution) -> str:
    if values.mean is None:
        return _NOTHING
    return f"{values.mean:.1f} ({_NOTHING if values.deviation is None else f'{values.deviation:.1f}'})"


def _percent(count: int, total: int) -> str:
    return f"{count / total:.1%}" if total else _NOTHING


def _flag(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | tuple):
        return ",".join(map(str, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def _cell(text: Any) -> str:
    return html.escape(str(text))
