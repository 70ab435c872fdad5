"""How many patients and ECGs a simulated cohort is to have, by institution, split and label."""

import csv
from dataclasses import dataclass

from keras_ecg_mae.errors import ConfigError

_BY_SIZE = ("institution", "patients", "ecgs")
_BY_LABEL = ("institution", "split", "patients", "case", "control")


@dataclass(frozen=True)
class Counts:
    """The size of an institution, or of one split of it.

    Attributes:
        institution: its name.
        patients: how many.
        ecgs: how many, at least one a patient; 0: one to three a patient.
        split: as the cohort's table is to say it, empty where it is not to.
        cases: how many ECGs have an ejection fraction under 40%; None where a prevalence decides.
    """

    institution: str
    patients: int
    ecgs: int = 0
    split: str = ""
    cases: int | None = None

    def by_label(self) -> tuple[tuple[bool, int, int], tuple[bool, int, int]]:
        """Whether they are cases, patients and ECGs, of cases and of controls.

        Patients are in proportion to the ECGs as far as each has one: none has both labels.
        """
        cases = self.cases or 0
        controls = self.ecgs - cases
        fewest = max(min(cases, 1), self.patients - controls)
        most = min(cases, self.patients - min(controls, 1))
        patients = min(max(round(self.patients * cases / self.ecgs), fewest), most)
        return (True, patients, cases), (False, self.patients - patients, controls)


def read_counts(path: str) -> tuple[Counts, ...]:
    """Reads a CSV file with the columns institution, patients, ecgs, or institution, split, patients, case, control.

    Raises:
        ConfigError: the file has other columns, or a row whose numbers fit no patients, or repeats an institution
            (and split).
    """
    counts: dict[tuple[str, str], Counts] = {}
    try:
        with open(path, encoding="utf-8", newline="") as file:
            reader = csv.DictReader(file)
            columns = tuple(reader.fieldnames or ())
            if columns not in (_BY_SIZE, _BY_LABEL):
                raise ConfigError(
                    f"{path}: Expected the columns {','.join(_BY_SIZE)} or {','.join(_BY_LABEL)}. "
                    f"Received {','.join(columns)}."
                )
            for row in reader:
                count = _count(path, reader.line_num, row)
                if (count.institution, count.split) in counts:
                    raise ConfigError(f"{path}, line {reader.line_num}: Expected each institution and split once.")
                counts[count.institution, count.split] = count
    except OSError as error:
        raise ConfigError(f"{path}: Expected a CSV file (--simulate_counts). Received: {error.strerror}.") from error
    return tuple(counts.values())


def _count(path: str, line: int, row: dict[str, str]) -> Counts:
    try:
        numbers = {name: int(row[name]) for name in row if name not in ("institution", "split")}
    except (TypeError, ValueError):
        raise ConfigError(f"{path}, line {line}: Expected whole numbers. Received others, or too few.") from None
    cases = numbers.get("case")
    ecgs = numbers["ecgs"] if cases is None else cases + numbers["control"]
    labels = 1 if cases is None else (cases > 0) + (ecgs > cases)
    if min(numbers.values()) < 0 or not max(labels, 1) <= numbers["patients"] <= ecgs:
        raise ConfigError(f"{path}, line {line}: Expected 1 to {ecgs} patients, one at least of each label.")
    return Counts(row["institution"], numbers["patients"], ecgs, row.get("split", ""), cases)
