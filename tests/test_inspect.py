"""What `inspect` says of files, for people and for programs."""

import io
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import wfdb
from matplotlib.image import imread

from keras_ecg_mae import spec
from keras_ecg_mae.config import Config, Inspect, Quality, Signal
from keras_ecg_mae.errors import ConfigError, RecordingError
from keras_ecg_mae.inspect.__main__ import draw, main
from keras_ecg_mae.recordings.inspection import Inspection, inspect_recording
from keras_ecg_mae.recordings.recording import Recording

REPOSITORY = Path(__file__).resolve().parent.parent
EIGHT = ("I", "II", "V1", "V2", "V3", "V4", "V5", "V6")


def triangles(leads: int, rate_hz: float = 500, seconds: float = 10) -> np.ndarray:
    """Leads of 1, 2, 3 ... mV from peak to peak, once a second."""
    time_s = np.arange(round(seconds * rate_hz)) / rate_hz
    return np.outer(np.arange(1, leads + 1), np.abs(time_s % 1 - 0.5) * 2)


def write_record(folder: Path, name: str, leads: tuple[str, ...], rate_hz: int = 500, seconds: float = 10) -> str:
    folder.mkdir(exist_ok=True)
    wfdb.wrsamp(
        name,
        fs=rate_hz,
        units=["mV"] * len(leads),
        sig_name=list(leads),
        p_signal=triangles(len(leads), rate_hz, seconds).T,
        fmt=["16"] * len(leads),
        adc_gain=[1000.0] * len(leads),
        baseline=[0] * len(leads),
        write_dir=str(folder),
    )
    return str(folder / name)


def inspected(
    ecg_mv: np.ndarray, leads: tuple[str, ...] = spec.LEADS, rate_hz: float = 500, path: str = "ward/1.hea"
) -> Inspection:
    return inspect_recording(Recording(path, leads, rate_hz, np.asarray(ecg_mv, np.float64), "wfdb"), Quality())


def settings(folder: Path, form: Literal["png", "svg"] = "png") -> Inspect:
    return Inspect(draw=str(folder), draw_format=form)


def test_json_has_a_line_a_file_and_the_bad_one_does_not_end_it(tmp_path: Path) -> None:
    good = write_record(tmp_path, "good", ("I", "ii", *EIGHT[2:]))
    short = write_record(tmp_path, "short", ("I", "V1", "Resp"), 250, 4)
    (tmp_path / "bad.xml").write_text("<RestingECG>")
    files = [good, str(tmp_path / "bad.xml"), short, str(tmp_path / "none")]
    command = [sys.executable, "-m", "keras_ecg_mae.inspect", "--json", f"--draw={tmp_path / 'drawn'}", *files]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stderr[-3000:]
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [line["path"] for line in lines] == files
    assert set(lines[0]) == {
        "path",
        "format",
        "leads",
        "sampling_rate_hz",
        "samples",
        "peak_to_peak_mv",
        "findings",
    }
    assert lines[0]["format"] == "wfdb"
    assert lines[0]["leads"] == ["I", "ii", *EIGHT[2:]]
    assert (lines[0]["sampling_rate_hz"], lines[0]["samples"]) == (500, 5000)
    assert lines[0]["peak_to_peak_mv"] == pytest.approx(
        {"I": 1, "II": 2, "V1": 3, "V2": 4, "V3": 5, "V4": 6, "V5": 7, "V6": 8}
        | {"III": 1, "aVR": 1.5, "aVL": 0, "aVF": 1.5},
        abs=3e-3,
    )
    assert lines[0]["findings"] == []
    assert set(lines[1]) == set(lines[3]) == {"path", "error"}
    assert lines[3]["error"].startswith("Expected a recording at this path")
    assert list(lines[2]["peak_to_peak_mv"]) == ["I", "V1", "signal 3"]
    finding, *others = lines[2]["findings"]
    assert finding == {"code": "too_short", "lead": None, "value": 4.0, "detail": finding["detail"]}
    assert {other["code"] for other in others} == {"missing_lead"}
    assert sorted(path.name for path in (tmp_path / "drawn").iterdir()) == ["good.png", "short.png"]
    assert str(tmp_path / "drawn" / "short.png") in done.stderr


@pytest.fixture
def say(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """A function that inspects a file in this process and returns what is printed."""

    def said(path: str, *, status: int = 0, **sections: Any) -> str:
        assert main(Config(**sections), [path]) == status
        return capsys.readouterr().out

    return said


def test_a_person_reads_what_was_understood(tmp_path: Path, say: Callable[..., str]) -> None:
    path = write_record(tmp_path, "record", ("I", "V1", "II", *EIGHT[3:]))
    text = say(path, inspection=settings(tmp_path / "drawn", "svg"))
    for words in (
        "format       wfdb",
        "500 Hz, 5,000 samples, 10.000 s",
        "I 1  V1 2  II 3  V2 4",
        "III 2  aVR 2  aVL 0.5  aVF 2.5",
        "usable       yes",
        f"drawn        {tmp_path / 'drawn' / 'record.svg'}",
    ):
        assert words in text
    assert "finding" not in text
    doubtful = say(path, quality=Quality(largest_mv=7.5, reject=("amplitude",)))
    assert "finding      amplitude, lead V6: 8 mV from peak to peak" in doubtful
    assert "usable       no: Expected none of --quality_reject. Received amplitude in lead V6" in doubtful
    with pytest.raises(ConfigError, match="at least one file"):
        main(Config(), [])


def test_the_sidecar_to_write_is_shown(tmp_path: Path, say: Callable[..., str]) -> None:
    np.save(tmp_path / "ecg.npy", triangles(12))
    path = str(tmp_path / "ecg.npy")
    known = Signal(sampling_rate_hz=500)
    answer = json.loads(say(path, status=1, signal=known, inspection=Inspect(json=True)))
    assert answer["sidecar_file"] == str(tmp_path / "ecg.json")
    assert answer["sidecar"]["sampling_rate_hz"] == 500
    assert len(answer["sidecar"]["leads"]) == 12
    shown = say(path, status=1, signal=known)
    assert str(tmp_path / "ecg.json") in shown
    assert json.loads(shown[shown.index("{") :]) == answer["sidecar"]
    # Filled in and saved there, it is all that was missing.
    filled_in = answer["sidecar"] | {"unit": "mV", "leads": spec.LEADS}
    (tmp_path / "ecg.json").write_text(json.dumps(filled_in))
    assert json.loads(say(path, inspection=Inspect(json=True)))["peak_to_peak_mv"]["V6"] == pytest.approx(12)


def test_no_tensorflow_is_loaded(tmp_path: Path) -> None:
    path = write_record(tmp_path, "record", EIGHT)
    program = (
        "import sys; from keras_ecg_mae.inspect.__main__ import main; from keras_ecg_mae.config import Config; "
        f"main(Config(), [{path!r}]); sys.exit(bool({{'tensorflow', 'keras', 'matplotlib'}} & set(sys.modules)))"
    )
    subprocess.run([sys.executable, "-c", program], check=True, cwd=REPOSITORY, capture_output=True)


def test_commands_that_are_run_by_their_file_find_the_standard_librarys_inspect() -> None:
    """Python then looks into the command's folder first, as `bazel run` has it."""
    program = "import sys; sys.path.insert(0, 'keras_ecg_mae'); import dataclasses, inspect; print(inspect.__file__)"
    done = subprocess.run([sys.executable, "-c", program], check=True, cwd=REPOSITORY, capture_output=True, text=True)
    assert "keras_ecg_mae" not in done.stdout


def test_amplitudes_of_what_is_no_number() -> None:
    ecg_mv = triangles(12)
    ecg_mv[6], ecg_mv[7, :100], ecg_mv[8, 5], ecg_mv[9] = np.nan, np.nan, np.inf, ecg_mv[9] * 1e307
    found = inspected(ecg_mv)
    ranges = json.loads(json.dumps(found.as_json(), allow_nan=False))["peak_to_peak_mv"]
    assert ranges["V1"] is None
    assert (ranges["V2"], ranges["V3"]) == (8, 9)
    assert ranges["V4"] == pytest.approx(1e308)
    assert "V1 -" in found.as_text()
    assert found.refusal is not None
    assert "nan in lead V1" in found.refusal


def test_channels_that_share_a_name_are_told_apart_and_leads_must_not() -> None:
    found = inspected(triangles(4), ("X", "II", "X", ""))
    assert found.peak_to_peak_mv == {"X": 1, "II": 2, "X #2": 3, "": 4}
    with pytest.raises(RecordingError, match=r"Received lead V1 twice"):
        inspected(triangles(2), ("V1", "v1"))


def test_nothing_moves_the_terminals_cursor() -> None:
    found = inspected(triangles(2), ("V1", "\x1b[2J\n"), path="a/\udc80\x1b.hea")
    assert found.as_text().encode().isascii()
    assert "\x1b" not in found.as_text()


@pytest.mark.parametrize("rate_hz", [250, 500, 1000])
def test_what_is_drawn_is_what_a_model_gets(rate_hz: float) -> None:
    ecg_mv = triangles(12, rate_hz, 12)
    assert np.isfinite(inspected(ecg_mv, rate_hz=rate_hz).page_mv).all()
    # The same without a lead, which does not conform: as good to the eye.
    there = inspected(ecg_mv[:11], spec.LEADS[:11], rate_hz).page_mv
    np.testing.assert_allclose(there[:11], inspected(ecg_mv, rate_hz=rate_hz).page_mv[:11], atol=0.25)
    assert np.isnan(there[11]).all()


@pytest.mark.parametrize("rate_hz", [50, 1e-3, 20_000, 1e9])
def test_any_rate_can_be_drawn(rate_hz: float, tmp_path: Path) -> None:
    found = inspected(triangles(12, 500), rate_hz=rate_hz)
    assert found.refusal is not None
    assert "100 to 10000 Hz" in found.refusal
    assert draw(found, settings(tmp_path, "svg"), set()).name == "1.svg"


def test_a_drawing_of_a_longer_recording_says_which_ten_seconds_it_shows() -> None:
    recording = Recording("ward/1.hea", spec.LEADS, 500, triangles(12, 500, 31), "wfdb")
    assert inspect_recording(recording, Quality()).page_title() == "1.hea    wfdb, 500 Hz, 31.00 s, from 0.00 s on"
    middle = inspect_recording(recording, Quality(), long_recordings="middle")
    assert middle.page_title() == "1.hea    wfdb, 500 Hz, 31.00 s, from 10.50 s on"
    np.testing.assert_allclose(middle.page_mv, recording.ecg_mv[:, 5250:10_250], atol=1e-6)
    assert inspected(triangles(12)).page_title() == "1.hea    wfdb, 500 Hz, 10.00 s"


def test_recordings_of_the_same_name_are_drawn_beside_each_other_and_again_in_place(tmp_path: Path) -> None:
    for _ in range(2):
        drawn: set[Path] = set()
        found = [inspected(triangles(12), path=f"{ward}/record.hea") for ward in "ab"]
        names = [draw(each, settings(tmp_path / "drawn"), drawn).name for each in found]
        assert names == ["record.png", "record-2.png"]
    assert len(list((tmp_path / "drawn").iterdir())) == 2
    with pytest.raises(ConfigError, match="--draw"):
        draw(found[0], settings(tmp_path / "drawn" / "record.png"), set())


def test_recordings_of_one_file_are_drawn_under_their_ids(tmp_path: Path) -> None:
    many = tmp_path / "many.hdf5"
    many.touch()
    found = [inspected(triangles(12), path=f"{many}#{record_id}") for record_id in ("17", "../9 b")]
    assert [one.page_title().split("    ")[0] for one in found] == ["many.hdf5#17", "many.hdf5#../9 b"]
    drawn = settings(tmp_path / "drawn", "svg")
    assert [draw(one, drawn, set()).name for one in found] == ["many-17.svg", "many-.._9_b.svg"]


def test_a_drawing_says_what_was_found_and_nothing_of_the_files_own_words(tmp_path: Path) -> None:
    ecg_mv = np.concatenate([triangles(11), triangles(1)])
    ecg_mv[8] = 0
    found = inspected(ecg_mv, (*spec.LEADS[:11], "Jane Doe 1970"), path="ward/2.hea")
    assert "missing lead V3 V6" in found.page_note()
    picture = draw(found, settings(tmp_path, "svg"), set()).read_text()
    assert "Jane" not in picture
    # A page too crowded to be read is drawn all the same: microvolts taken for millivolts.
    large = draw(inspected(triangles(12) * 1e6), settings(tmp_path), set()).read_bytes()
    assert imread(io.BytesIO(large)).shape[:2] == (1240, 1753)
