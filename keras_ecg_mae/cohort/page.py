"""Who is in a dataset, who was left out of it and why, as one HTML page that needs nothing else."""

from collections.abc import Iterator
from typing import Any

from keras_ecg_mae.cohort.description import CohortDescription, Summary
from keras_ecg_mae.cohort.table_problems import TABLE_PROBLEMS
from keras_ecg_mae.config import SPLITS
from keras_ecg_mae.errors import REASONS
from keras_ecg_mae.pages import render
from keras_ecg_mae.pages.tables import percent

COHORT_PAGE = "cohort.html"


def cohort_page(cohort: CohortDescription, title: str) -> str:
    """The page: by institution and split, who was left out, what was wrong in the table, pairs, settings."""
    whole = cohort.summary()
    overview = {
        "ECGs": f"{whole.recordings:,}",
        "patients": f"{whole.patients:,}",
        "institutions": f"{len(cohort.institutions):,}",
    }
    if cohort.label_name:
        share = f"positive ({cohort.label_name}), of {whole.labelled:,} labelled"
        overview[share] = percent(whole.positive, whole.labelled)
    overview["ECGs left out"] = f"{sum(cohort.rejected.values()):,}"
    return render(
        "cohort.html.j2",
        title=title,
        cohort=cohort,
        overview=overview,
        whole=whole,
        groups=_groups(cohort),
        sexes=sorted(whole.sex, key=lambda word: (word == "", word)),
        rejected=sorted(cohort.rejected.items(), key=lambda item: (-item[1], item[0])),
        reasons=REASONS,
        problems_file=TABLE_PROBLEMS,
        settings=[f"--{name}={_flag(value)}" for name, value in cohort.settings.items()],
    )


def _groups(cohort: CohortDescription) -> Iterator[tuple[str, str, Summary]]:
    """The rows by institution and split: their class in the page, head and recordings."""
    for institution in cohort.institutions:
        external = ", external" if institution in cohort.external_institutions else ""
        yield "sum", institution + external, cohort.summary([institution])
        for split in SPLITS:
            if cohort.count(split, institution=institution):
                yield "split", split, cohort.summary([institution], [split])
    if len(cohort.institutions) > 1:
        for split in SPLITS:
            yield "sum", f"all, {split}", cohort.summary(splits=[split])


def _flag(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | tuple):
        return ",".join(map(str, value))
    return f"{value:g}" if isinstance(value, float) else str(value)
