"""The items of TRIPOD+AI (Collins et al., BMJ 385, 2024, e078378), answered by runs, by people, or open."""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from keras_ecg_mae.errors import RunError
from keras_ecg_mae.files import read_if_there
from keras_ecg_mae.pages.tables import Row, Table
from keras_ecg_mae.reports.comparison import Column

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

TO_WRITE = "for you to write"
# Item, what it asks in few words, and the field of study.toml that a person answers it in; empty where none can.
ITEMS = (
    ("1", "Title: development or evaluation, population, outcome", "title"),
    ("2", "Abstract", "abstract"),
    ("3a", "Healthcare context and reasons, models that exist", "context"),
    ("3b", "Target population, purpose in care, users", "purpose"),
    ("3c", "Known health inequalities", "inequalities"),
    ("4", "Objectives", "objectives"),
    ("5a", "Sources of data, and whom they represent", "data_sources"),
    ("5b", "Dates of accrual", "dates"),
    ("6a", "Setting, centres", "setting"),
    ("6b", "Eligibility", "eligibility"),
    ("6c", "Treatments received", "treatments"),
    ("7", "Preparation of the data, alike for all groups", "preparation"),
    ("8a", "Outcome: what, how and when, alike for all groups", "outcome"),
    ("8b", "Who assessed the outcome", "assessors"),
    ("8c", "Blinding of the outcome's assessment", "blinding"),
    ("9a", "Choice of predictors", ""),
    ("9b", "Definition and measurement of predictors", ""),
    ("9c", "Who assessed subjective predictors", ""),
    ("10", "Sample size and its justification", ""),
    ("11", "Missing data", "missing_data"),
    ("12a", "Use of the data, partition", ""),
    ("12b", "Handling of predictors", ""),
    ("12c", "Model, steps of building it, tuning", ""),
    ("12d", "Heterogeneity between clusters", ""),
    ("12e", "Measures and plots", ""),
    ("12f", "Updating, such as recalibration", ""),
    ("12g", "How predictions were calculated", ""),
    ("13", "Class imbalance", ""),
    ("14", "Fairness: approaches and reasons", "fairness"),
    ("15", "Output, threshold and how it was chosen", ""),
    ("16", "Differences between development and evaluation data", "differences"),
    ("17", "Ethical approval", "ethics"),
    ("18a", "Funding", "funding"),
    ("18b", "Conflicts of interest", "conflicts"),
    ("18c", "Protocol", "protocol"),
    ("18d", "Registration", "registration"),
    ("18e", "Availability of data", "data_availability"),
    ("18f", "Availability of code", "code_availability"),
    ("19", "Patient and public involvement", "involvement"),
    ("20a", "Flow of participants", "flow"),
    ("20b", "Characteristics of participants", ""),
    ("20c", "Evaluation data against development data", ""),
    ("21", "Participants and events in each analysis", ""),
    ("22", "The model, for predictions of new people", ""),
    ("23a", "Performance with intervals, in key subgroups", ""),
    ("23b", "Heterogeneity of performance between clusters", ""),
    ("24", "Results of updating", ""),
    ("25", "Interpretation, fairness", "interpretation"),
    ("26", "Limitations", "limitations"),
    ("27a", "Poor or missing input when the model is used", ""),
    ("27b", "Users' part and expertise", "users"),
    ("27c", "Next steps", "next_steps"),
)
# What a report says that has the tables of datasets too.
_COHORT_ANSWERS = {"20b": "The parts on cohorts, and the supplementary tables."}
FIELDS = tuple(field for _, _, field in ITEMS if field)


def read_study(path: Path) -> dict[str, str]:
    """What people say of a study: a TOML file of texts named in `FIELDS`, none of which has to be there.

    Raises:
        RunError: there is no such file, it is no TOML, or it holds another field or what is no text.
    """
    content = read_if_there(path)
    if content is None:
        raise RunError(f"{path}: Expected a TOML file about the study. Received no such file.")
    try:
        study = tomllib.loads(content.decode())
    except ValueError as error:
        raise RunError(f"{path}: Expected TOML. Received something else: {error}.") from error
    for field, text in study.items():
        if field not in FIELDS or not isinstance(text, str):
            raise RunError(f"{path}: Expected texts named {', '.join(FIELDS)}. Received {field} = {text!r}.")
    return study


def tripod_table(columns: Sequence[Column], study: Mapping[str, str], cohorts: bool) -> Table:
    """A row an item: a person's answer, then what the package knows. `cohorts`: the report has their tables."""
    known = _known(columns) | (_COHORT_ANSWERS if cohorts else {})
    rows = []
    for item, asks, field in ITEMS:
        answers = [text for text in (study.get(field, ""), known.get(item, "")) if text]
        wanted = f"{TO_WRITE} (study.toml: {field})" if field else "not done"
        rows.append(Row.of(item, (asks, " ".join(answers) or wanted)))
    return Table(
        "tripod_ai",
        "The items of TRIPOD+AI, in few words",
        ("Asks", "Answer"),
        tuple(rows),
        ("The official wording is in BMJ 2024;385:e078378. An answer is a start: read each against it.",),
        head="Item",
        prose=True,
    )


def _known(columns: Sequence[Column]) -> dict[str, str]:
    """What the package answers by itself, by item: of all runs together where it is the same."""
    runs = [column.run for column in columns]
    trained = list(dict.fromkeys(sentence for run in runs for sentence in run.trained.sentences()))
    rules = list(dict.fromkeys(f"{run.results.threshold:.3g}: {run.results.threshold_rule}" for run in runs))
    counts = []
    for column in columns:
        counts += [
            f"{column.name}, {group.name}: {group.ecgs:,} ECGs of {group.patients:,} patients, "
            f"{group.positive_ecgs:,} positive."
            for group in column.run.results.groups
            if group.pooled
        ]
    notes = list(dict.fromkeys(note for run in runs for note in run.results.notes))
    revisions = sorted({made.git_revision for run in runs if (made := run.evaluated) and made.git_revision})
    return {
        "5a": f"Datasets: {', '.join(sorted({run.dataset.folder for run in runs}))}.",
        "7": "rejected.csv of each dataset names each recording left out, and why.",
        "8a": f"A positive label: {runs[0].trained.label}.",
        "9a": "12 leads of the ECG, and nothing else.",
        "9b": "10 s of leads I, II, III, aVR, aVL, aVF and V1 to V6 at 500 Hz, in mV.",
        "9c": "None is subjective.",
        "10": "The tables of each run say 'too few' by measure, by the criteria of Riley et al. (2021).",
        "11": "ECGs without a label are not evaluated; rejected.csv counts what is refused.",
        "12a": " ".join(trained),
        "12b": "The normalisation stands in the flags of each run: flags.txt.",
        "12c": "Architecture, recipe, rates tried and epochs stand in flags.txt and finetune/ of each run.",
        "12d": "By institution, and random effects across institutions with a prediction interval.",
        "12e": "AUROC, calibration, net benefit and probabilities by outcome, as STRATOS TG6 asks (2025); measures at "
        "a threshold describe.",
        "12g": "predictions.csv of each run; its checksum is under Sources.",
        "13": "No method for class imbalance.",
        "15": f"A probability. Threshold {'; '.join(rules)}.",
        "18f": f"Revision {', '.join(revisions)}, Apache-2.0." if revisions else "Apache-2.0.",
        "21": " ".join(counts),
        "22": "The SavedModel that the stage export leaves, with its model card.",
        "23a": "The tables and figures of each run: by institution, pool and subgroup.",
        "23b": "The rows 'across institutions'.",
        "26": " ".join(notes),
        "27a": "The export refuses a recording that it cannot use, and says why (input_ok).",
    }
