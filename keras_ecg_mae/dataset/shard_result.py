"""What is known of a shard once it is whole: kept beside the shards until the manifest is written.

A killed `prepare` goes on from there: a shard with a result is finished, one without it is written again.
"""

import json
from dataclasses import dataclass, replace

from keras_ecg_mae.errors import DatasetError, FileError
from keras_ecg_mae.files import files_under, read_if_there, size_bytes, write_whole

# Hidden, so that no institution has the name, and removed when the manifest is there.
UNFINISHED = ".unfinished"
_ENDING = ".result.json"


@dataclass(frozen=True)
class ShardFinding:
    """What `findings.assess_recording` found of one recording of a shard.

    Attributes:
        position: of the recording in the shard's task.
        code, lead, value, detail: as in `findings.Finding`.
    """

    position: int
    code: str
    lead: str | None
    value: float
    detail: str


@dataclass(frozen=True)
class ShardResult:
    """One shard that was written.

    Attributes:
        size_bytes: of the file.
        sha256: of the file.
        rejected: which recordings could not be used: position in the task, reason code, detail.
        findings: in the order of the recordings, those of rejected ones excepted.
        digests: checksum of each recording's stored samples, in hexadecimal; empty for a rejected one.
        sidecars: of what lay beside each recording to say what its samples mean; empty where a format says it itself.
        removed: positions of recordings that were taken out again, as their samples are another recording's.
    """

    size_bytes: int
    sha256: str
    rejected: tuple[tuple[int, str, str], ...]
    findings: tuple[ShardFinding, ...]
    digests: tuple[str, ...]
    sidecars: tuple[str, ...]
    removed: tuple[int, ...]

    def accepted(self) -> list[int]:
        """The positions of the recordings that the file holds, in its order."""
        return [place for place, digest in enumerate(self.digests) if digest and place not in self.removed]

    def without(self, positions: tuple[int, ...], size_bytes: int, sha256: str) -> "ShardResult":
        """The result of the file after `positions` were taken out."""
        removed = tuple(sorted({*self.removed, *positions}))
        return replace(self, size_bytes=size_bytes, sha256=sha256, removed=removed)


def write_result(folder: str, file: str, result: ShardResult) -> None:
    """Keeps a shard's result: from here on the shard counts as finished. Raises `DatasetError`."""
    content = {
        **vars(result),
        "findings": [list(vars(finding).values()) for finding in result.findings],
    }
    write_whole(result_path(folder, file), json.dumps(content, ensure_ascii=False) + "\n")


def read_result(folder: str, file: str) -> ShardResult | None:
    """The result of the shard `file`; None where there is none, or the shard is not the one it tells of."""
    path = f"{folder}/{file}"
    content = read_if_there(result_path(folder, file))
    if content is None:
        return None
    fields = json.loads(content)
    if "sidecars" not in fields:  # of a version before this one, whose shards may be others
        return None
    result = ShardResult(
        size_bytes=fields["size_bytes"],
        sha256=fields["sha256"],
        rejected=tuple((position, code, detail) for position, code, detail in fields["rejected"]),
        findings=tuple(ShardFinding(*finding) for finding in fields["findings"]),
        digests=tuple(fields["digests"]),
        sidecars=tuple(fields["sidecars"]),
        removed=tuple(fields["removed"]),
    )
    try:
        return result if size_bytes(path) == result.size_bytes else None
    except FileError:
        return None


def finished_result(folder: str, file: str) -> ShardResult:
    """The result of a shard that is written. Raises `DatasetError` where there is none."""
    result = read_result(folder, file)
    if result is None:
        raise DatasetError(
            f"{folder}/{file}: Expected this shard and what is known of it. Received none, or a shard of another size: "
            "give the same command again."
        )
    return result


def has_results(folder: str) -> bool:
    """Whether any shard has one."""
    return any(path.name.endswith(_ENDING) for path in files_under(f"{folder}/{UNFINISHED}"))


def result_path(folder: str, file: str) -> str:
    """Where a shard's result lies."""
    return f"{folder}/{UNFINISHED}/{file}{_ENDING}"
