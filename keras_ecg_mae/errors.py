"""The errors a user can cause. Each message says what was expected and what was received."""


class EcgMaeError(Exception):
    """Base of every error that is about the user's input rather than about a defect of this package."""


class ConfigError(EcgMaeError, ValueError):
    """A setting that is unknown, out of range, or contradicts another one."""


class RecordingError(EcgMaeError, ValueError):
    """One recording that cannot be used.

    Args:
        path: the file, as the user named it.
        code: a short reason for tables and counts, e.g. `"truncated"`; see `REASONS`.
        detail: one sentence naming the element: what was expected, what was received.
    """

    def __init__(self, path: str, code: str, detail: str):
        if code not in REASONS:
            raise ValueError(f"Expected a reason code among {sorted(REASONS)}. Received {code!r}.")
        super().__init__(f"{path}: {detail}")
        self.path, self.code, self.detail = path, code, detail

    def __reduce__(self) -> tuple[type, tuple[object, ...]]:  # pickled by the process pool
        return type(self), (self.path, self.code, self.detail)


class UnsaidError(RecordingError):
    """A recording whose file leaves unsaid what its samples mean.

    Args:
        path: the file, as the user named it.
        code: a short reason, see `REASONS`.
        detail: one sentence that names what is missing, and the ways to say it.
        sidecar_file: where a JSON object may say it.
        sidecar: that object: what is known, and words in place of what is not.
    """

    def __init__(self, path: str, code: str, detail: str, sidecar_file: str, sidecar: dict[str, object]):
        super().__init__(path, code, detail)
        self.sidecar_file, self.sidecar = sidecar_file, sidecar

    def __reduce__(self) -> tuple[type, tuple[object, ...]]:
        return type(self), (self.path, self.code, self.detail, self.sidecar_file, self.sidecar)


class FileError(EcgMaeError, RuntimeError):
    """A file of a dataset, run or export that cannot be read or written."""


class DatasetError(EcgMaeError, ValueError):
    """A table, dataset folder or shard that cannot be used as a whole."""


class RunError(EcgMaeError, RuntimeError):
    """A run folder or stage that cannot go on: something it needs is missing, differs, or diverged."""


class DivergedError(RunError):
    """A training whose loss or gradient is not finite."""


class ServerError(EcgMaeError, RuntimeError):
    """A model server that does not answer, or not as this package's exports do."""


class PreemptedError(EcgMaeError, RuntimeError):
    """The process was asked to end. Everything is saved: the same command goes on."""


# Every reason a recording may be left out of a dataset, in the words of `rejected.csv`.
REASONS: dict[str, str] = {
    "missing": "the file does not exist",
    "outside_root": "the path leaves the folder of recordings",
    "unknown_format": "no reader knows the file's content",
    "unsafe": "the file would do more than hold data: entities, outside references, or sizes past all reason",
    "malformed": "the file breaks its format",
    "truncated": "the file holds fewer samples than its header promises",
    "sampling_rate": "the sampling rate is missing, zero or out of range",
    "unit": "the unit is not one of voltage",
    "leads": "a lead is missing that cannot be derived, or is named twice",
    "too_short": "shorter than 10 s",
    "too_long": "longer than 10 s where that is refused, or longer than a reader decodes",
    "not_finite": "NaN or infinite samples",
    "amplitude": "amplitude no surface ECG has: a wrong unit",
    "flat_leads": "more flat (all-constant) leads than allowed",
    "quality": "a finding that --quality_reject names",
    "duplicate_signal": "the samples of another recording, where that is refused",
    "table_row": "the table's row names no path, or has more cells than the header",
    "institution": "the table's row has no institution, or one whose name cannot be a folder's",
    "split": "the table's split is not to be used, or its patient is in a later split as well",
    "repeated": "the table says the same of this path in an earlier row",
    "contradiction": "the table has this path, or this record id, in rows that contradict one another",
}
