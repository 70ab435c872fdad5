"""Makes a report of finished runs and prepared datasets: tables 1 to 4 and figures 1 and 3 of Sawano et al.

    python -m keras_ecg_mae.report --report_output=FOLDER RUN... DATASET...
    python -m keras_ecg_mae.report --report_output=FOLDER --paper=pipelines/paper RUN...
    python -m keras_ecg_mae.report --report_output=FOLDER --fewer_labels=RUN_A,RUN_B

Each run is a column of table 3, in the order given, and is compared with the run with `--architecture=cnn` of the same
dataset. `--paper` prints the paper's AUROCs under ours, `--fewer_labels` compares two runs trained on fewer and on more
labels. Datasets add tables 1, 2 and 4, and supplementary tables of age, sex and ejection fraction; those of the runs
are found by themselves.
Prints the report as Markdown, and writes it as Markdown, as one HTML file and as a CSV file a table.
"""

import sys

from keras_ecg_mae.command import run_command
from keras_ecg_mae.config import Config
from keras_ecg_mae.errors import ConfigError
from keras_ecg_mae.files import storage_path

RUN_FILES, DATASET_FILES = ("run.json", "flags.txt"), ("manifest.json", "cohort.json")

SHOWN = ("report",)


def main(config: Config, folders: list[str]) -> int:
    """Writes the report to `--report_output` and prints it."""
    from keras_ecg_mae.reports.report import make_report
    from keras_ecg_mae.reports.tripod import read_study

    settings = config.report
    settings.require("report_output")
    if not folders and not settings.fewer_labels:
        raise ConfigError("Expected run folders or dataset folders to report on. Received none.")
    output = storage_path(settings.report_output)
    if output.exists() and not output.is_dir():
        raise ConfigError(f"Expected --report_output to be a folder. Received the file {settings.report_output!r}.")
    are_runs = [_is_run(folder) for folder in folders]
    document = make_report(
        [storage_path(folder) for folder, is_run in zip(folders, are_runs, strict=True) if is_run],
        [folder for folder, is_run in zip(folders, are_runs, strict=True) if not is_run],
        paper_folder=storage_path(settings.paper) if settings.paper else None,
        fewer=[storage_path(folder) for folder in settings.fewer_labels],
        subgroups=settings.subgroups,
        study=read_study(storage_path(settings.study)) if settings.study else {},
    )
    document.write(output)
    if settings.report_printed == "everything":
        sys.stdout.write(document.markdown())
    else:
        sentences = [remark for part in document.parts for remark in part.remarks]
        sys.stdout.write("\n".join([*sentences, f"The page: {output / 'report.html'}", ""]))
    return 0


def _is_run(folder: str) -> bool:
    """Whether a folder is a run's rather than a dataset's. Raises `ConfigError` where it is neither's."""
    path = storage_path(folder)
    if any((path / name).is_file() for name in RUN_FILES):
        return True
    if any((path / name).is_file() for name in DATASET_FILES):
        return False
    raise ConfigError(
        f"Expected the folder of a run, with {' or '.join(RUN_FILES)}, or of a dataset, with "
        f"{' or '.join(DATASET_FILES)}. Received {folder!r}, which has none of them."
    )


if __name__ == "__main__":
    run_command(main, SHOWN, arguments=True)
