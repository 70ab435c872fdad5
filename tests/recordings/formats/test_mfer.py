"""MFER: the real files, and files that a writer makes here by the letter of the standard."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from keras_ecg_mae.recordings.open import open_recording
from tests.recordings.conftest import refusal, written
from tests.recordings.mfer_writer import CODES, DIGITAL, LEADS, NAME, Order, mfer, scaled, tlv


@pytest.mark.parametrize(
    "name",
    [
        "mfer_fukuda_denshi.mwf",
        "mfer_ge_marquette.mwf",
        "mfer_nihon_kohden_qp901d.mwf",
        "mfer_suzuken_cvs01_two_leads_60s.mwf",
    ],
)
def test_real_files_against_another_decoder(shared: Path, name: str) -> None:
    formats = shared / "data" / "formats"
    expected = json.loads((formats / "scp_mfer_expected.json").read_text())[name]
    recording = open_recording(formats / "mfer" / name)
    assert recording.format == "mfer"
    assert recording.leads == tuple(expected["leads"])
    assert recording.sampling_rate_hz == expected["sampling_rate_hz"]
    assert recording.ecg_mv.shape == (len(recording.leads), expected["samples"])
    assert recording.ecg_mv.dtype == np.float64
    for lead, row in zip(recording.leads, recording.ecg_mv, strict=True):
        np.testing.assert_allclose(row[:5], expected["first_five_mv"][lead], rtol=0, atol=1e-9)
        assert np.ptp(row) == pytest.approx(expected["peak_to_peak_mv"][lead], abs=1e-9)
        assert row.sum() == pytest.approx(expected["sum_mv"][lead], abs=1e-4)


@pytest.mark.parametrize("order", ["big", "little"])
@pytest.mark.parametrize("block", [300, 100, 1])
@pytest.mark.parametrize("preamble", [True, False])
def test_layouts(tmp_path: Path, order: Order, block: int, preamble: bool) -> None:
    recording = open_recording(written(tmp_path, mfer(order=order, block=block, preamble=preamble)))
    assert recording.leads == LEADS
    assert recording.sampling_rate_hz == 500
    np.testing.assert_allclose(recording.ecg_mv, DIGITAL * 1.25e-3, rtol=1e-12)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    sequences=st.integers(1, 6),
    block=st.integers(1, 6),
    channels=st.integers(1, 9),
    order=st.sampled_from(["big", "little"]),
    data_type=st.sampled_from([(0, "i2"), (1, "u2"), (2, "i4"), (3, "u1"), (5, "i1"), (6, "u4")]),
    said=st.booleans(),
    data=st.data(),
)
def test_any_samples_come_back(
    tmp_path: Path,
    sequences: int,
    block: int,
    channels: int,
    order: Order,
    data_type: tuple[int, str],
    said: bool,
    data: st.DataObject,
) -> None:
    kind = data_type[1]
    numbers = st.integers(np.iinfo(kind).min, np.iinfo(kind).max)
    size = sequences * block
    rows = data.draw(st.lists(st.lists(numbers, min_size=size, max_size=size), min_size=channels, max_size=channels))
    content = mfer(
        np.array(rows), list(CODES)[:channels], order, block, None, data_type, sensitivity=(0, -3, 1), sequences=said
    )
    np.testing.assert_array_equal(open_recording(written(tmp_path, content)).ecg_mv, rows)


@pytest.mark.parametrize(
    ("interval", "rate_hz"), [((1, -6, 2000), 500), ((1, -3, 8), 125), ((0, 0, 500), 500), ((0, 2, 10), 1000)]
)
def test_rates(tmp_path: Path, interval: tuple[int, int, int], rate_hz: float) -> None:
    assert open_recording(written(tmp_path, mfer(interval=interval))).sampling_rate_hz == rate_hz


@pytest.mark.parametrize(
    ("sensitivity", "unit_mv"), [((0, -6, 5), 5e-3), ((0, -3, 1), 1), ((0, 0, 1), 1e3), ((0, -9, 4880), 4.88e-3)]
)
def test_units(tmp_path: Path, sensitivity: tuple[int, int, int], unit_mv: float) -> None:
    recording = open_recording(written(tmp_path, mfer(sensitivity=sensitivity)))
    np.testing.assert_allclose(recording.ecg_mv, DIGITAL * unit_mv, rtol=1e-12)


def test_what_a_channel_says_comes_first(tmp_path: Path) -> None:
    own = [b""] * 8
    own[3] = tlv(0x0C, scaled(0, -6, 5, "big")) + tlv(0x0B, scaled(0, 0, 500, "big"))
    expected = DIGITAL * np.where(np.arange(8) == 3, 5e-3, 1.25e-3)[:, None]
    recording = open_recording(written(tmp_path, mfer(order="big", channel_further=own)))
    np.testing.assert_allclose(recording.ecg_mv, expected, rtol=1e-12)


def test_definitions_in_a_group_and_taken_back(tmp_path: Path) -> None:
    further = tlv(0x67, tlv(0x0C, scaled(0, -6, 5, "big")) + tlv(0x0A, b"\3")) + tlv(0x0A, b"")
    recording = open_recording(written(tmp_path, mfer(order="big", further=further)))
    np.testing.assert_allclose(recording.ecg_mv, DIGITAL * 5e-3, rtol=1e-12)


def test_definitions_of_a_channel_up_to_padding(tmp_path: Path) -> None:
    own = b"".join(
        bytes([0x3F, number, 0x80]) + tlv(0x0C, scaled(0, -6, number + 1, "big")) + b"\0\0" for number in (0, 7)
    )
    further = own + tlv(0x0C, scaled(0, -6, 5, "big"))
    recording = open_recording(written(tmp_path, mfer(order="big", further=further)))
    np.testing.assert_allclose(recording.ecg_mv, DIGITAL * np.array([[1, *[5] * 6, 8]]).T * 1e-3, rtol=1e-12)


def test_definitions_that_change_nothing(tmp_path: Path) -> None:
    """MWF_OFF and MWF_CMP of 0 as Fukuda Denshi writes them, filters, notes, events, the end."""
    further = tlv(0x0D, b"\0") + tlv(0x0E, b"\0") + tlv(0x11, b"Drift") + tlv(0x16, NAME) + tlv(0x41, bytes(20))
    content = mfer(further=further) + b"\x80\0" + NAME
    np.testing.assert_allclose(open_recording(written(tmp_path, content)).ecg_mv, DIGITAL * 1.25e-3, rtol=1e-12)


def test_no_data_is_no_number(tmp_path: Path) -> None:
    digital = DIGITAL.copy()
    digital[2, 5:9] = -32768
    digital[3, 1] = 0
    ecg_mv = open_recording(written(tmp_path, mfer(digital, further=tlv(0x12, b"\0\x80")))).ecg_mv
    assert np.isnan(ecg_mv[2, 5:9]).all()
    assert np.isnan(ecg_mv).sum() == 4
    for default in (b"", b"\0", b"\0\0"):
        assert not np.isnan(open_recording(written(tmp_path, mfer(digital, further=tlv(0x12, default)))).ecg_mv).any()


def test_other_channels_are_left_out(tmp_path: Path) -> None:
    digital = np.vstack([DIGITAL, DIGITAL[:1]])
    own = [b""] * 8 + [tlv(0x0C, scaled(1, 0, 1, "little"))]  # blood pressure in mmHg
    recording = open_recording(written(tmp_path, mfer(digital, (*LEADS, 143), channel_further=own)))
    assert recording.leads == LEADS
    own[0] = tlv(0x08, bytes([31]))  # a pulse wave
    assert open_recording(written(tmp_path, mfer(digital, (*LEADS, 143), channel_further=own))).leads == LEADS[1:]
    assert refusal(written(tmp_path, mfer(leads=range(4160, 4168)))).code == "leads"


def test_averaged_beats_are_left_out(tmp_path: Path) -> None:
    beat = mfer(DIGITAL[:, :100] + 7, kind=9, preamble=False)
    for content in (mfer() + beat, mfer(DIGITAL[:, :100] + 7, kind=9) + mfer(preamble=False)):
        assert open_recording(written(tmp_path, content)).ecg_mv.shape == DIGITAL.shape


@pytest.mark.parametrize(
    ("content", "code", "element"),
    [
        (mfer(kind=9), "unknown_format", "types 9"),
        (mfer(waves=2), "unknown_format", "one frame"),
        (mfer(waves=0), "truncated", "1Eh"),
        (mfer(interval=None), "sampling_rate", "lead I"),
        (mfer(interval=(2, -3, 1)), "sampling_rate", "lead I"),  # in metres
        (mfer(interval=(1, -3, 0)), "sampling_rate", "lead I"),
        (mfer(sensitivity=None), "unit", "lead I"),
        (mfer(sensitivity=(1, -3, 1)), "unit", "lead I"),  # in mmHg
        (mfer(sensitivity=(0, -3, 0)), "unit", "lead I"),
        (mfer(further=tlv(0x0D, b"\1\0")), "unit", "0Dh"),
        (mfer(further=tlv(0x0E, b"\1\0")), "unknown_format", "0Eh"),
        (mfer(further=tlv(0x0A, b"\x09")), "unknown_format", "0Ah"),
        (mfer(further=tlv(0x06, b"\2")), "truncated", "4800"),
        (mfer(DIGITAL[:, :100], further=tlv(0x04, b"\x32")), "malformed", "800"),
        (mfer(further=tlv(0x04, b"\0")), "malformed", "0 bytes"),
        (mfer(sequences=False, further=tlv(0x04, b"\7")), "truncated", "4816"),
        (mfer(channel_further=(b"", tlv(0x0B, scaled(0, 0, 250, "little"))) * 4), "unknown_format", "rate"),
    ],
)
def test_what_cannot_be_decoded(tmp_path: Path, content: bytes, code: str, element: str) -> None:
    error = refusal(written(tmp_path, content))
    assert (error.code, element in error.detail) == (code, True), error.detail


def test_text_and_zeros_are_not_mfer(tmp_path: Path) -> None:
    for content in (b"I,II,V1\n" * 600, bytes(6000), b"@ MF", b"\x05\x7f" + bytes(200)):
        assert refusal(written(tmp_path, content)).code != "truncated"
