import json
import logging
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    TwelveLeadECGWaveformStorage,
)

from keras_ecg_mae.recordings.formats.dicom import is_dicom
from keras_ecg_mae.recordings.open import open_recording
from keras_ecg_mae.recordings.source import Source
from tests.recordings.conftest import refusal

LEADS = ("I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6")
NUMBERS = dict(zip(LEADS, (1, 2, 61, 62, 63, 64, 3, 4, 5, 6, 7, 8), strict=True))
SAMPLES = 200
DIGITAL = np.random.default_rng(0).integers(-2000, 2000, (SAMPLES, 12)).astype("<i2")
INTERPRETATIONS = {"i1": "SB", "u1": "UB", "i2": "SS", "u2": "US", "i4": "SL", "u4": "UL"}
PLANTED = ("Doe^Jane", "19700229", "MRN-4711", "chest pain since Tuesday")
GUANGXI = "ecg2dcm_guangxi_teaching_sinus_rhythm"


def item(**elements: Any) -> Dataset:
    """A data set of elements by keyword; those that are None are left out."""
    dataset = Dataset()
    for keyword, value in elements.items():
        if value is not None:
            setattr(dataset, keyword, value)
    return dataset


def code(value: str | None, scheme: str | None = None, meaning: str | None = None) -> Sequence:
    return Sequence([item(CodeValue=value, CodingSchemeDesignator=scheme, CodeMeaning=meaning)])


def channel(lead: str, **changes: Any) -> Dataset:
    elements: dict[str, Any] = {
        "ChannelLabel": None,
        "ChannelSourceSequence": code(f"2:{NUMBERS.get(lead, 999)}", "MDC", f"Lead {lead}"),
        "ChannelSensitivity": "1",
        "ChannelSensitivityUnitsSequence": code("uV", "UCUM"),
        "ChannelSensitivityCorrectionFactor": "4.88",
        "ChannelBaseline": "0",
        "ChannelSampleSkew": "0",
        "WaveformBitsStored": 16,
    }
    return item(**elements | changes)


def group(digital: np.ndarray = DIGITAL, leads: tuple[str, ...] = LEADS, **changes: Any) -> Dataset:
    """A multiplex group of samples `(samples, channels)`."""
    channels = changes.pop("channels", None) or [
        channel(lead, WaveformBitsStored=8 * digital.dtype.itemsize) for lead in leads
    ]
    elements: dict[str, Any] = {
        "WaveformOriginality": "ORIGINAL",
        "NumberOfWaveformChannels": len(channels),
        "NumberOfWaveformSamples": len(digital),
        "SamplingFrequency": "500",
        "ChannelDefinitionSequence": Sequence(channels),
        "WaveformBitsAllocated": 8 * digital.dtype.itemsize,
        "WaveformSampleInterpretation": INTERPRETATIONS[digital.dtype.str[1:]],
        "WaveformData": digital.tobytes() + bytes(digital.nbytes % 2),
    }
    dataset = item(**elements | changes)
    for keyword in {"WaveformData", "WaveformPaddingValue"} & {element.keyword for element in dataset}:
        dataset[keyword].VR = "OB" if digital.dtype.itemsize == 1 else "OW"
    return dataset


def with_channels(**changes: Any) -> Dataset:
    """A group of which the fifth channel has other elements."""
    return group(channels=[channel(lead, **(changes if lead == "aVL" else {})) for lead in LEADS])


def write(
    folder: Path, *groups: Dataset, sop_class: str = TwelveLeadECGWaveformStorage, syntax: str = ExplicitVRLittleEndian
) -> str:
    dataset = item(
        SOPClassUID=sop_class,
        SOPInstanceUID="1.2.3",
        Modality="ECG",
        PatientName=PLANTED[0],
        PatientBirthDate=PLANTED[1],
        PatientID=PLANTED[2],
        StudyDescription=PLANTED[3],
        WaveformSequence=Sequence(groups),
    )
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.MediaStorageSOPClassUID = UID(sop_class)
    dataset.file_meta.MediaStorageSOPInstanceUID = UID("1.2.3")
    dataset.file_meta.TransferSyntaxUID = UID(syntax)
    path = str(folder / "ecg.dcm")
    dataset.save_as(path, enforce_file_format=True)
    return path


def test_real_12_lead_file_by_eye(shared: Path) -> None:
    recording = open_recording(str(shared / "data" / "formats" / "dicom" / "cardio_sample.dcm"))
    assert recording.leads == LEADS
    assert (recording.sampling_rate_hz, recording.format) == (500, "dicom")
    assert recording.ecg_mv.shape == (12, 5000)
    np.testing.assert_allclose(recording.ecg_mv[1], recording.ecg_mv[0] + recording.ecg_mv[2], atol=0.00501)
    # A simulated normal ECG: an R wave of 1 mV in lead II, 80 beats a minute.
    assert 0.9 < recording.ecg_mv[1].max() < 1.2
    assert np.sum(np.diff((recording.ecg_mv[1] > 0.6).astype(int)) == 1) == 14


@pytest.mark.parametrize("name", ["cardio_sample.dcm", f"{GUANGXI}.dcm"])
def test_real_files_against_pydicom(shared: Path, name: str) -> None:
    path = str(shared / "data" / "formats" / "dicom" / name)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pydicom.config.settings, "reading_validation_mode", pydicom.config.IGNORE)
        expected_uv = pydicom.dcmread(path).waveform_array(0).T
    np.testing.assert_allclose(open_recording(path).ecg_mv, expected_uv / 1000, rtol=0, atol=1e-12)
    assert open_recording(path).format == "dicom"


def test_scale_and_baseline_by_hand(tmp_path: Path) -> None:
    changes = {"ChannelSensitivity": "2.5", "ChannelSensitivityCorrectionFactor": "1.1", "ChannelBaseline": "-40"}
    recording = open_recording(write(tmp_path, with_channels(**changes)))
    np.testing.assert_allclose(recording.ecg_mv[4], (DIGITAL[:, 4] * 2.75 - 40) / 1000, rtol=1e-12)
    np.testing.assert_allclose(recording.ecg_mv[5], DIGITAL[:, 5] * 0.00488, rtol=1e-12)


@pytest.mark.parametrize(
    ("unit", "millivolts"),
    [("uV", 1e-3), ("mV", 1.0), ("V", 1e3), ("\N{MICRO SIGN}V", 1e-3), ("uv", 1e-3), ("UV", 1e-3), ("mv", 1.0)],
)
def test_units(tmp_path: Path, unit: str, millivolts: float) -> None:
    path = write(tmp_path, with_channels(ChannelSensitivityUnitsSequence=code("uV")))
    content = Path(path).read_bytes()
    stored = unit.encode("latin-1").ljust(2)
    changed = content.replace(b"SH\x02\x00uV", b"SH\x02\x00" + stored)
    assert changed != content or unit == "uV"
    Path(path).write_bytes(changed)
    np.testing.assert_allclose(open_recording(path).ecg_mv, DIGITAL.T * (4.88 * millivolts), rtol=1e-12)


@pytest.mark.parametrize("sign", ["\N{MICRO SIGN}", "\N{GREEK SMALL LETTER MU}"])
def test_micro_sign_in_utf_8(tmp_path: Path, sign: str) -> None:
    path = write(tmp_path, with_channels(ChannelSensitivityUnitsSequence=code("__uV")))
    content = Path(path).read_bytes().replace(b"__uV", f"{sign}V ".encode())
    Path(path).write_bytes(content)
    np.testing.assert_allclose(open_recording(path).ecg_mv, DIGITAL.T * 0.00488, rtol=1e-12)


@pytest.mark.parametrize(
    ("source", "label", "lead"),
    [
        (code("2:63", "MDC"), None, "aVL"),
        (code("5.6.3-9-63", "SCPECG"), None, "aVL"),
        (code("2:9", "MDC"), None, "V7"),
        (code("2:11", "MDC"), None, "V3R"),
        (code("2:66", "MDC"), None, "V8"),
        (code("2:87", "MDC"), None, "2:87"),
        (code("2:0", "MDC", "Unspecified lead"), "aVL", "aVL"),
        (code("10", "99VENDOR", "Lead I (Einthoven)"), None, "I"),
        (code("10", "99VENDOR", "aVL, augmented voltage, left"), None, "aVL"),
        (code("10", "99VENDOR", "Lead aVL (augmented voltage, left)"), None, "aVL"),
        (code("MDC_ECG_LEAD_AVL", "99VENDOR", "MDC_ECG_LEAD_AVL"), None, "aVL"),
        (code("10", "99VENDOR", "unknown"), "Lead aVL", "aVL"),
        (None, "AVL", "aVL"),
    ],
)
def test_lead_names(tmp_path: Path, source: Sequence | None, label: str | None, lead: str) -> None:
    channels = [channel("V1"), channel("?", ChannelSourceSequence=source, ChannelLabel=label)]
    path = write(tmp_path, group(DIGITAL[:, :2].copy(), channels=channels))
    assert open_recording(path).leads == ("V1", lead)


@pytest.mark.parametrize(
    ("source", "label"),
    [
        (code("2:63", "MDC", "aVF, augmented voltage, foot"), None),
        (code("2:63", "MDC"), "V1"),
        (code("2:87", "MDC", "Lead I"), None),
    ],
)
def test_names_of_one_channel_that_contradict_each_other(tmp_path: Path, source: Sequence, label: str | None) -> None:
    error = refusal(write(tmp_path, with_channels(ChannelSourceSequence=source, ChannelLabel=label)))
    assert (error.code, "channel 5" in error.detail) == ("leads", True)


def test_channels_that_are_no_leads_are_left_out(tmp_path: Path) -> None:
    respiration = channel("?", ChannelSensitivityUnitsSequence=code("kPa"), ChannelLabel="Jane's breath")
    digital = np.insert(DIGITAL, 3, 7, axis=1)
    channels = [channel(lead) for lead in LEADS]
    channels.insert(3, respiration)
    recording = open_recording(write(tmp_path, group(digital, channels=channels)))
    assert recording.leads == LEADS
    np.testing.assert_allclose(recording.ecg_mv, DIGITAL.T * 0.00488, rtol=1e-12)


def test_a_file_without_leads(tmp_path: Path) -> None:
    channels = [channel("?", ChannelSourceSequence=code("2:18944", "MDC", "Blood pressure"))]
    assert refusal(write(tmp_path, group(DIGITAL[:, :1].copy(), channels=channels))).code == "leads"


@pytest.mark.parametrize("first", [True, False])
def test_the_median_beat_is_not_the_recording(tmp_path: Path, first: bool) -> None:
    median = group(DIGITAL[:60] + 1, WaveformOriginality="DERIVED", MultiplexGroupLabel="RHYTHM")
    groups = (median, group()) if first else (group(), median)
    np.testing.assert_allclose(open_recording(write(tmp_path, *groups)).ecg_mv, DIGITAL.T * 0.00488, rtol=1e-12)


def test_nothing_but_a_median_beat(tmp_path: Path) -> None:
    error = refusal(write(tmp_path, group(WaveformOriginality="DERIVED")))
    assert (error.code, "DERIVED" in error.detail) == ("malformed", True)


def test_a_group_that_does_not_say_whether_it_is_derived(tmp_path: Path) -> None:
    recording = open_recording(write(tmp_path, group(WaveformOriginality=None)))
    np.testing.assert_allclose(recording.ecg_mv, DIGITAL.T * 0.00488, rtol=1e-12)


def test_of_several_groups_the_longest_with_twelve_leads(tmp_path: Path) -> None:
    beat = group(DIGITAL[:60] + 1)  # a median beat that says it is ORIGINAL
    strip = group(np.tile(DIGITAL[:, 1:2], (6, 1)), leads=("II",))
    path = write(tmp_path, beat, strip, group())
    np.testing.assert_allclose(open_recording(path).ecg_mv, DIGITAL.T * 0.00488, rtol=1e-12)


def thirds(starts: tuple[str | None, ...]) -> list[Dataset]:
    """Four groups of three leads."""
    return [
        group(DIGITAL[:, row : row + 3].copy(), leads=LEADS[row : row + 3], MultiplexGroupTimeOffset=start)
        for row, start in zip((6, 0, 9, 3), starts, strict=True)
    ]


def test_groups_that_begin_together_are_joined(tmp_path: Path) -> None:
    recording = open_recording(write(tmp_path, *thirds(("0", "0.0", "0", "0"))))
    assert recording.leads == (*LEADS[6:9], *LEADS[:3], *LEADS[9:], *LEADS[3:6])
    np.testing.assert_allclose(recording.ecg_mv[0], DIGITAL[:, 6] * 0.00488, rtol=1e-12)
    np.testing.assert_allclose(recording.ecg_mv[3], DIGITAL[:, 0] * 0.00488, rtol=1e-12)


@pytest.mark.parametrize("starts", [("0", "2500", "5000", "7500"), (None, None, None, None), ("0", "0", None, "0")])
def test_groups_that_may_come_after_one_another_are_not_joined(tmp_path: Path, starts: tuple[str | None, ...]) -> None:
    error = refusal(write(tmp_path, *thirds(starts)))
    assert (error.code, "3 leads of 0.4 s" in error.detail) == ("leads", True)


def test_two_recordings_in_a_file(tmp_path: Path) -> None:
    assert refusal(write(tmp_path, group(), group())).code == "leads"


@pytest.mark.parametrize(
    ("changes", "code_", "named"),
    [
        ({"ChannelSensitivity": None}, "unit", "ChannelSensitivity of channel 5"),
        ({"ChannelSensitivity": "0"}, "unit", "ChannelSensitivity of channel 5"),
        ({"ChannelSensitivityCorrectionFactor": "0"}, "unit", "ChannelSensitivity of channel 5"),
        ({"ChannelSensitivityUnitsSequence": None}, "unit", "Units of channel 5"),
        ({"ChannelSensitivityUnitsSequence": code("mm[Hg]", "UCUM")}, "unit", "mm[Hg]"),
        ({"ChannelSensitivityUnitsSequence": code("MV", "UCUM")}, "unit", "MV"),
        ({"ChannelSensitivityUnitsSequence": code(PLANTED[0])}, "unit", "Units of channel 5"),
        ({"ChannelStatus": "UNCALIBRATED"}, "leads", "ChannelStatus"),
        ({"ChannelStatus": ["OK", "TEST DATA"]}, "leads", "ChannelStatus"),
        ({"ChannelSampleSkew": "1"}, "unknown_format", "1 samples apart"),
        ({"ChannelSampleSkew": None, "ChannelTimeSkew": "0.01"}, "unknown_format", "5 samples apart"),
        ({"ChannelOffset": "-0.5"}, "unknown_format", "250 samples apart"),
        ({"WaveformBitsStored": 11}, "malformed", "between -1024 and 1023"),
    ],
)
def test_bad_channels(tmp_path: Path, changes: dict[str, Any], code_: str, named: str) -> None:
    error = refusal(write(tmp_path, with_channels(**changes)))
    assert error.code == code_
    assert named in error.detail


@pytest.mark.parametrize(
    "changes",
    [
        {"ChannelBaseline": None},
        {"WaveformBitsStored": None},
        {"ChannelSensitivity": "4.88", "ChannelSensitivityCorrectionFactor": None},
        {"ChannelStatus": "QUESTIONABLE"},
        {"ChannelSampleSkew": None},
        {"ChannelSampleSkew": None, "ChannelTimeSkew": "0.001"},
        {"WaveformBitsStored": 12},
        {"ChannelSensitivityUnitsSequence": code("uV", "99VENDOR", "microvolt")},
    ],
)
def test_channels_that_are_good_enough(tmp_path: Path, changes: dict[str, Any]) -> None:
    recording = open_recording(write(tmp_path, with_channels(**changes)))
    np.testing.assert_allclose(recording.ecg_mv, DIGITAL.T * 0.00488, rtol=1e-12)


@pytest.mark.parametrize(
    ("changes", "code_", "named"),
    [
        ({"SamplingFrequency": None}, "sampling_rate", "group 1"),
        ({"NumberOfWaveformChannels": 11}, "malformed", "is 11,"),
        ({"ChannelDefinitionSequence": None}, "malformed", "0 channels"),
        ({"NumberOfWaveformSamples": 0}, "truncated", "Group 1"),
        ({"NumberOfWaveformSamples": SAMPLES + 1}, "truncated", "Expected 4824 bytes in WaveformData. Received 4800"),
        ({"NumberOfWaveformSamples": SAMPLES - 1}, "malformed", "Expected 4776 bytes in WaveformData. Received 4800"),
        ({"WaveformSampleInterpretation": "MB"}, "unknown_format", "Received MB in 16 bits"),
        ({"WaveformBitsAllocated": 64, "WaveformSampleInterpretation": "SV"}, "unknown_format", "SV in 64 bits"),
    ],
)
def test_bad_groups(tmp_path: Path, changes: dict[str, Any], code_: str, named: str) -> None:
    error = refusal(write(tmp_path, group(**changes)))
    assert error.code == code_
    assert named in error.detail


def test_padding_is_nan(tmp_path: Path) -> None:
    digital = DIGITAL.copy()
    digital[17, 3] = -32768
    channels = [channel(lead, WaveformBitsStored=12) for lead in LEADS]
    path = write(tmp_path, group(digital, channels=channels, WaveformPaddingValue=b"\x00\x80"))
    assert np.argwhere(np.isnan(open_recording(path).ecg_mv)).tolist() == [[3, 17]]


def test_files_without_a_waveform(shared: Path) -> None:
    for path, words in (
        (shared / "cases" / "W14" / "12_lead_sop_with_pdf.dcm", ["PDF"]),
        (str(get_testdata_file("CT_small.dcm")), ["none", "1.2.840.10008.5.1.4.1.1.2 (CT Image Storage)"]),
    ):
        error = refusal(str(path))
        assert error.code == "unknown_format"
        assert all(word in error.detail for word in words)


def test_an_ecg_under_another_sop_class(shared: Path) -> None:
    case = shared / "cases" / "W11"
    spans = json.loads((case / "expected.json").read_text())["expected"]["peak_to_peak_mv"]
    recording = open_recording(case / "hemodynamic.dcm")
    assert recording.leads == tuple(spans)
    np.testing.assert_allclose(np.ptp(recording.ecg_mv, axis=1), list(spans.values()), atol=0.006)


def test_compressed_transfer_syntax(tmp_path: Path) -> None:
    path = write(tmp_path, group())
    content = Path(path).read_bytes().replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2.5\0")
    Path(path).write_bytes(content)
    error = refusal(path)
    assert (error.code, "1.2.840.10008.1.2.5 (RLE Lossless)" in error.detail) == ("unknown_format", True)


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRLittleEndian])
@pytest.mark.parametrize("meta", [True, False])
def test_elements_alone(tmp_path: Path, syntax: str, meta: bool) -> None:
    path = write(tmp_path, group(), syntax=syntax)
    content = Path(path).read_bytes()
    end_of_meta = 144 + struct.unpack("<L", content[140:144])[0]
    Path(path).write_bytes(content[132 if meta else end_of_meta :])
    assert is_dicom(Source(str(path)))
    np.testing.assert_allclose(open_recording(path).ecg_mv, DIGITAL.T * 0.00488, rtol=1e-12)


def test_pydicom_s_log_and_warnings_stay_away(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = write(tmp_path, group())
    content = Path(path).read_bytes()
    (tmp_path / "mixed.dcm").write_bytes(content.replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2\0\0\0"))
    with caplog.at_level(logging.DEBUG):
        # A warning would be an error here. The syntax is the wrong one; pydicom finds the right one and says so.
        assert open_recording(str(tmp_path / "mixed.dcm")).ecg_mv.shape == (12, SAMPLES)
    assert not caplog.records
    assert not logging.getLogger("pydicom").disabled


@pytest.mark.parametrize(
    "syntax", [ImplicitVRLittleEndian, ExplicitVRLittleEndian, DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian]
)
@pytest.mark.parametrize("dtype", sorted(INTERPRETATIONS))
def test_syntaxes_and_types_of_samples(tmp_path: Path, syntax: str, dtype: str) -> None:
    numbers = np.iinfo(dtype)
    digital = np.random.default_rng(0).integers(numbers.min, numbers.max, (31, 12), endpoint=True)
    order = ">" if syntax == ExplicitVRBigEndian else "<"
    multiplex = group(digital.astype(order + dtype))
    multiplex["ChannelDefinitionSequence"].is_undefined_length = dtype == "i2"
    path = write(tmp_path, multiplex, syntax=syntax)
    if syntax == ExplicitVRBigEndian and dtype[1] == "4":  # nothing orders the two words of a sample
        assert refusal(path).code == "unknown_format"
    else:
        np.testing.assert_allclose(open_recording(path).ecg_mv, digital.T * 0.00488, rtol=1e-12)
