"""SCP-ECG: the real files, and files that a writer makes here by the letter of the standard."""

import json
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from keras_ecg_mae.errors import RecordingError
from keras_ecg_mae.recordings.conform import conform
from keras_ecg_mae.recordings.open import open_recording
from tests.recordings.conftest import mutations, refusal, written
from tests.recordings.scp_writer import DIGITAL, LEADS, NAME, Bits, bodies, default_bits, record, section


@pytest.mark.parametrize(
    "name", ["ecgtoolkit_example.scp", "welch_allyn_mdw14_a.scp", "welch_allyn_mdw14_paediatric.scp"]
)
def test_real_files_against_two_other_decoders(shared: Path, name: str) -> None:
    formats = shared / "data" / "formats"
    expected = json.loads((formats / "scp_mfer_expected.json").read_text())[name]
    recording = open_recording(formats / "scp" / name)
    assert recording.format == "scp"
    assert recording.leads == tuple(expected["leads"])
    assert recording.sampling_rate_hz == pytest.approx(expected["sampling_rate_hz"], abs=1e-6)
    assert recording.ecg_mv.shape == (len(recording.leads), expected["samples"])
    assert recording.ecg_mv.dtype == np.float64
    for lead, row in zip(recording.leads, recording.ecg_mv, strict=True):
        np.testing.assert_allclose(row[:5], expected["first_five_mv"][lead], rtol=0, atol=1e-9)
        assert np.ptp(row) == pytest.approx(expected["peak_to_peak_mv"][lead], abs=1e-9)
        assert row.sum() == pytest.approx(expected["sum_mv"][lead], abs=1e-4)


def test_what_the_real_files_conform_to(shared: Path) -> None:
    folder = shared / "data" / "formats" / "scp"
    for name in ("ecgtoolkit_example", "welch_allyn_mdw14_a"):  # twelve leads, and eight
        assert conform(open_recording(folder / f"{name}.scp")).shape == (12, 5000)
    with pytest.raises(RecordingError) as caught:
        conform(open_recording(folder / "welch_allyn_mdw14_paediatric.scp"))
    assert caught.value.code == "leads"
    assert "V3, V5" in caught.value.detail


@pytest.mark.parametrize("differences", [0, 1, 2])
@pytest.mark.parametrize("bits", [default_bits, None])
def test_encodings(tmp_path: Path, differences: int, bits: Bits | None) -> None:
    recording = open_recording(written(tmp_path, record(bodies(differences=differences, bits=bits))))
    assert recording.leads == LEADS
    assert recording.sampling_rate_hz == 500
    np.testing.assert_allclose(recording.ecg_mv, DIGITAL * 2.5e-3, rtol=1e-12)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rows=st.integers(1, 40).flatmap(
        lambda size: st.lists(
            st.lists(st.integers(-32768, 32767), min_size=size, max_size=size), min_size=1, max_size=3
        )
    ),
    differences=st.sampled_from([0, 1, 2]),
    bits=st.sampled_from([default_bits, None]),
)
def test_any_samples_come_back(tmp_path: Path, rows: list[list[int]], differences: int, bits: Bits | None) -> None:
    digital = np.array(rows)
    made = bodies(digital, LEADS[: len(rows)], differences, bits, nanovolts=1000)
    np.testing.assert_array_equal(open_recording(written(tmp_path, record(made))).ecg_mv, digital / 1000)


def test_tables_of_a_file_s_own(tmp_path: Path) -> None:
    # Table 1: 0 and eight bits; 10 goes on with table 2. Table 2: 1 is 7; 001 is -5; 01 goes back; 000 and 4 bits.
    codes = [[(1, 9, 1, 0, "0"), (2, 2, 0, 2, "10")]]
    codes += [[(1, 1, 1, 7, "1"), (3, 3, 1, -5, "001"), (2, 2, 0, 1, "01"), (3, 7, 1, 100, "000")]]
    tables = struct.pack("<H", 2)
    for table in codes:
        tables += struct.pack("<H", len(table))
        tables += b"".join(struct.pack("<BBBhI", *code[:4], int(code[4][::-1], 2)) for code in table)
    coded = {-2: "0" + "11111110", 7: "10" + "1", -5: "001", 3: "01" + "0" + "00000011", 99: "10" + "000" + "1111"}
    samples = np.array([list(coded)])
    made = bodies(samples, ["II"], 0, coded.__getitem__, tables, nanovolts=1000)
    np.testing.assert_array_equal(open_recording(written(tmp_path, record(made))).ecg_mv, samples / 1000)


def test_leads_by_their_codes(tmp_path: Path) -> None:
    made = bodies(leads=("aVF", "V3R", "III", "V9", "I", "-aVR", "X", "V6"))
    listed = bytearray(made[3])
    listed[2 + 8] = 32  # a lead that calibrates
    recording = open_recording(written(tmp_path, record(made | {3: bytes(listed)})))
    assert recording.leads == ("signal 1", "V3R", "III", "V9", "I", "-aVR", "X", "V6")


def test_samples_counted_from_0_to_their_number(tmp_path: Path) -> None:
    assert open_recording(written(tmp_path, record(bodies(first=0)))).ecg_mv.shape == DIGITAL.shape


def test_scale_and_rate(tmp_path: Path) -> None:
    recording = open_recording(written(tmp_path, record(bodies(nanovolts=3750, interval_us=1667))))
    assert recording.sampling_rate_hz == 1e6 / 1667
    np.testing.assert_allclose(recording.ecg_mv, DIGITAL * 3.75e-3, rtol=1e-12)
    assert refusal(written(tmp_path, record(bodies(nanovolts=0)))).code == "unit"
    assert refusal(written(tmp_path, record(bodies(interval_us=0)))).code == "sampling_rate"


@pytest.mark.parametrize("number", [0, 2, 3, 6])
def test_a_checksum_of_a_section_that_is_read(tmp_path: Path, number: int) -> None:
    made = bodies()
    content = bytearray(record(made))
    place = content.rindex(made[number]) if number else 6 + 16 + 100
    content[place + 1] ^= 4
    error = refusal(written(tmp_path, bytes(content)))
    assert error.code == "malformed"
    assert f"section {number} " in error.detail


def test_damage_elsewhere_costs_nothing(tmp_path: Path) -> None:
    """As an anonymizer leaves a record that overwrites the name and no checksum."""
    content = record(bodies()).replace(NAME, b"X" * len(NAME))
    np.testing.assert_allclose(open_recording(written(tmp_path, content)).ecg_mv, DIGITAL * 2.5e-3, rtol=1e-12)


@pytest.mark.parametrize(
    ("change", "code", "element"),
    [
        ({"bimodal": 1}, "unknown_format", "bimodal"),
        ({"flags": 0b1000101}, "unknown_format", "reference beat"),
        ({"differences": 3}, "unknown_format", "encoding 3"),
        ({"tables": struct.pack("<HHBBBhI", 1, 1, 1, 1, 1, 0, 1)}, "malformed", "lead I "),
    ],
)
def test_what_cannot_be_decoded(tmp_path: Path, change: dict[str, int], code: str, element: str) -> None:
    error = refusal(written(tmp_path, record(bodies(**change))))  # type: ignore[arg-type]
    assert error.code == code
    assert element in error.detail


def test_sections_that_are_not_there(tmp_path: Path) -> None:
    for number in (3, 6):
        error = refusal(written(tmp_path, record({key: body for key, body in bodies().items() if key != number})))
        assert error.code == "malformed"
        assert f"section {number}." in error.detail


def test_leads_that_were_not_recorded_together(tmp_path: Path) -> None:
    made = bodies()
    listed = made[3][:2] + struct.pack("<IIB", 301, 600, 1) + made[3][11:]
    assert refusal(written(tmp_path, record(made | {3: listed}))).code == "unknown_format"


def test_fewer_samples_than_leads_say(tmp_path: Path) -> None:
    made = bodies()
    rhythm = made[6][:-20]
    error = refusal(written(tmp_path, record(made | {6: rhythm})))
    assert error.code == "malformed"
    assert "V6" in error.detail


def test_damaged_within_sections_whose_checksums_fit(tmp_path: Path) -> None:
    whole = bodies(DIGITAL[:, :60])
    for number in (0, 2, 3, 6):
        outcomes = {"read": 0, "refused": 0}
        for body in mutations(whole[number] if number else record(whole)[22 : 22 + 120], 100):
            if number:
                content = record(whole | {number: body})
            else:
                content = record(whole)
                content = content[:6] + section(0, body) + content[6 + 16 + 120 :]
            try:
                open_recording(written(tmp_path, content))
                outcomes["read"] += 1
            except RecordingError:
                outcomes["refused"] += 1
        assert min(outcomes.values()) > 0, (number, outcomes)
