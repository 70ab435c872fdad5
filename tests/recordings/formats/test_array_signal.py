"""The rule for bare arrays, by way of NPY files, which say nothing of themselves, and NPZ files, which say all."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from keras_ecg_mae import spec
from keras_ecg_mae.config import Signal
from keras_ecg_mae.recordings import open_recording
from keras_ecg_mae.recordings.formats.array_signal import without_padding
from tests.recordings.conftest import refusal

ECG_MV = np.random.default_rng(0).normal(size=(12, 50)).round(3)
SAID = Signal(sampling_rate_hz=500, unit="mV", leads=spec.LEADS)
SIDECAR = {"sampling_rate_hz": 500, "unit": "mV", "leads": list(spec.LEADS)}


def npy(folder: Path, array: np.ndarray = ECG_MV, sidecar: object = None, name: str = "ecg.json") -> Path:
    path = folder / "ecg.npy"
    np.save(path, array)
    if sidecar is not None:
        (folder / name).write_text(sidecar if isinstance(sidecar, str) else json.dumps(sidecar))
    return path


def npz(folder: Path, **members: Any) -> Path:
    path = folder / "ecg.npz"
    np.savez(path, **members)
    return path


@pytest.mark.parametrize("name", ["ecg.json", "ecg.npy.json", "signal.json"])
def test_a_sidecar_says_what_the_array_does_not(tmp_path: Path, name: str) -> None:
    recording = open_recording(npy(tmp_path, sidecar=SIDECAR | {"patient": {"name": "Jane Doe"}}, name=name))
    assert recording.leads == spec.LEADS
    assert recording.sampling_rate_hz == 500
    assert recording.format == "npy"
    assert recording.ecg_mv.dtype == np.float64
    np.testing.assert_array_equal(recording.ecg_mv, ECG_MV)


def test_a_sidecar_may_use_the_names_that_files_use(tmp_path: Path) -> None:
    names = {"fs": 500, "Units": "millivolts", "lead_names": list(spec.LEADS), "channels": 12, "gain": None}
    path = npy(tmp_path, sidecar=names)
    recording = open_recording(path)
    assert (recording.sampling_rate_hz, recording.leads) == (500, spec.LEADS)
    np.testing.assert_array_equal(recording.ecg_mv, ECG_MV)
    assert refusal(npy(tmp_path, sidecar=names | {"sampling_rate_hz": 250})).code == "sampling_rate"


def test_the_nearest_sidecar_says_it(tmp_path: Path) -> None:
    path = npy(tmp_path, sidecar=SIDECAR, name="signal.json")
    (tmp_path / "ecg.json").write_text('{"sampling_rate_hz": 250}')
    assert open_recording(path).sampling_rate_hz == 250


def test_settings_say_what_file_and_sidecar_do_not(tmp_path: Path) -> None:
    path = npy(tmp_path)
    np.testing.assert_array_equal(open_recording(path, SAID).ecg_mv, ECG_MV)
    (tmp_path / "ecg.json").write_text('{"sampling_rate_hz": 250, "unit": "V"}')
    recording = open_recording(path, SAID)
    assert recording.sampling_rate_hz == 250
    np.testing.assert_allclose(recording.ecg_mv, ECG_MV * 1000)


def test_a_refusal_names_all_that_is_missing_with_its_flags(tmp_path: Path) -> None:
    error = refusal(npy(tmp_path))
    assert error.code == "sampling_rate"
    for word in ("--signal_sampling_rate_hz", "--signal_unit", "--signal_leads", "NAME.json", "signal.json"):
        assert word in error.detail
    error = refusal(tmp_path / "ecg.npy", Signal(sampling_rate_hz=500, leads=spec.LEADS))
    assert error.code == "unit"
    assert "--signal_unit" in error.detail
    assert "--signal_leads" not in error.detail
    assert refusal(tmp_path / "ecg.npy", Signal(sampling_rate_hz=500, unit="mV")).code == "leads"


@pytest.mark.parametrize(
    ("key", "value", "code"),
    [
        ("sampling_rate_hz", "500", "sampling_rate"),
        ("sampling_rate_hz", True, "sampling_rate"),
        ("sampling_rate_hz", [500], "sampling_rate"),
        ("sampling_rate_hz", 0, "sampling_rate"),
        ("sampling_rate_hz", -500, "sampling_rate"),
        ("sampling_rate_hz", float("nan"), "sampling_rate"),
        ("sampling_rate_hz", float("inf"), "sampling_rate"),
        ("sampling_rate_hz", 10**400, "sampling_rate"),
        ("sampling_rate_hz", None, "sampling_rate"),
        ("unit", "mmHg", "unit"),
        ("unit", "counts", "unit"),
        ("unit", 1, "unit"),
        ("unit", ["mV", 1], "unit"),
        ("unit", ["mV", "uV"], "unit"),
        ("leads", "I,II", "leads"),
        ("leads", {"I": 0}, "leads"),
        ("leads", [1, 2], "leads"),
        ("leads", [], "leads"),
        ("leads", ["I"] * 257, "leads"),
        ("gain_per_mv", 0, "unit"),
        ("gain_per_mv", "1000", "unit"),
        ("baseline", ["0"], "unit"),
    ],
)
def test_a_sidecar_is_read_strictly(tmp_path: Path, key: str, value: object, code: str) -> None:
    error = refusal(npy(tmp_path, sidecar=SIDECAR | {key: value}), SAID)
    assert error.code == code
    assert key in error.detail


@pytest.mark.parametrize("content", ["", "[]", "{", "1", "null", "[" * 100_000, '{"unit": "mV"} {}', "9" * 5000])
def test_a_sidecar_is_one_json_object(tmp_path: Path, content: str) -> None:
    assert refusal(npy(tmp_path, sidecar=content), SAID).code == "malformed"


def test_a_sidecar_is_small(tmp_path: Path) -> None:
    assert refusal(npy(tmp_path, sidecar={"": "x" * (1 << 20)}), SAID).code == "malformed"


def test_messages_quote_nothing_from_a_sidecar_or_file(tmp_path: Path) -> None:
    for key in SIDECAR:
        assert "Doe" not in str(refusal(npy(tmp_path, sidecar=SIDECAR | {key: "Jane Doe, 1950"}), SAID))
    (tmp_path / "ecg.json").unlink()
    assert "Doe" not in str(refusal(npz(tmp_path, ecg=ECG_MV, units="Doe, Jane"), SAID))


@pytest.mark.parametrize(
    ("key", "value", "code"),
    [("sampling_rate_hz", 400, "sampling_rate"), ("unit", "uV", "unit"), ("leads", list(spec.LEADS[::-1]), "leads")],
)
def test_file_and_sidecar_must_agree(tmp_path: Path, key: str, value: object, code: str) -> None:
    path = npz(tmp_path, ecg=ECG_MV, fs=500, unit="millivolts", leads=[lead.upper() for lead in spec.LEADS])
    (tmp_path / "ecg.json").write_text(json.dumps(SIDECAR))
    np.testing.assert_array_equal(open_recording(path).ecg_mv, ECG_MV)
    (tmp_path / "ecg.json").write_text(json.dumps({key: value}))
    error = refusal(path)
    assert error.code == code
    assert "agree" in error.detail


def test_the_file_is_believed_over_settings(tmp_path: Path) -> None:
    path = npz(tmp_path, ecg=ECG_MV, fs=500, unit="uV", leads=spec.LEADS)
    recording = open_recording(path, Signal(sampling_rate_hz=100, unit="V", leads=("V1",)))
    assert (recording.sampling_rate_hz, recording.leads) == (500, spec.LEADS)
    np.testing.assert_allclose(recording.ecg_mv, ECG_MV / 1000)


def test_two_names_in_a_file_that_disagree(tmp_path: Path) -> None:
    assert open_recording(npz(tmp_path, ecg=ECG_MV, fs=500, sampling_rate="500 Hz"), SAID).sampling_rate_hz == 500
    assert refusal(npz(tmp_path, ecg=ECG_MV, fs=500, sampling_rate=501), SAID).code == "sampling_rate"


@pytest.mark.parametrize("leads", ["I,II,III", "I II III", "I; II ;III", ["I", "II", "III"], [b"I", b"II", b"III"]])
def test_names_of_leads_in_a_file(tmp_path: Path, leads: object) -> None:
    assert open_recording(npz(tmp_path, ecg=ECG_MV[:3], channel_names=leads), SAID).leads == ("I", "II", "III")


def test_a_count_of_leads_is_not_their_names(tmp_path: Path) -> None:
    assert open_recording(npz(tmp_path, ecg=ECG_MV, channels=12), SAID).leads == spec.LEADS


def test_names_that_are_no_leads_are_not_carried(tmp_path: Path) -> None:
    names = (*spec.LEADS[:11], "Jane Doe")
    assert open_recording(npz(tmp_path, ecg=ECG_MV, leads=names), SAID).leads == (*spec.LEADS[:11], "signal 12")
    names = ("MDC_ECG_LEAD_I", "v4r", "X", "MLII")
    assert open_recording(npz(tmp_path, ecg=ECG_MV[:4], leads=names), SAID).leads == names


def test_the_number_of_leads_tells_which_way_round(tmp_path: Path) -> None:
    np.testing.assert_array_equal(open_recording(npy(tmp_path, ECG_MV.T), SAID).ecg_mv, ECG_MV)
    np.testing.assert_array_equal(open_recording(npy(tmp_path, np.asfortranarray(ECG_MV)), SAID).ecg_mv, ECG_MV)
    one = Signal(sampling_rate_hz=500, unit="mV", leads=("I",))
    np.testing.assert_array_equal(open_recording(npy(tmp_path, ECG_MV[0]), one).ecg_mv, ECG_MV[:1])


@pytest.mark.parametrize("shape", [(12, 12), (11, 50), (50, 13), (50,), (600,)])
def test_where_it_does_not_tell(tmp_path: Path, shape: tuple[int, ...]) -> None:
    error = refusal(npy(tmp_path, np.ones(shape)), SAID)
    assert error.code == "leads"
    assert str(shape[0]) in error.detail


def test_axes_of_length_one(tmp_path: Path) -> None:
    many = np.stack([ECG_MV, 2 * ECG_MV])
    for array in (many[:, None].transpose(0, 1, 3, 2), many[:, None], many[..., None], many[:, None, :, None]):
        np.testing.assert_array_equal(open_recording(f"{npy(tmp_path, array)}#1", SAID).ecg_mv, 2 * ECG_MV)
    for array in (ECG_MV[None, None], ECG_MV.T[None, None], ECG_MV[:, None, :, None]):
        np.testing.assert_array_equal(open_recording(npy(tmp_path, array), SAID).ecg_mv, ECG_MV)
    assert refusal(npy(tmp_path, many[:, None])).code == "missing"


@pytest.mark.parametrize("shape", [(), (12, 0), (0, 12), (2, 2, 2, 2)])
def test_shapes_of_no_recording(tmp_path: Path, shape: tuple[int, ...]) -> None:
    assert refusal(npy(tmp_path, np.ones(shape)), SAID).code in ("unknown_format", "truncated")


def test_integers_need_a_gain_or_microvolts(tmp_path: Path) -> None:
    digital = (ECG_MV * 200).round().astype(np.int16)
    for unit in ("mV", "V"):
        error = refusal(npy(tmp_path, digital), Signal(sampling_rate_hz=500, unit=unit, leads=spec.LEADS))
        assert error.code == "unit"
        assert "gain_per_mv" in error.detail
    recording = open_recording(npy(tmp_path, digital), Signal(sampling_rate_hz=500, unit="uV", leads=spec.LEADS))
    np.testing.assert_array_equal(recording.ecg_mv, digital / 1000)
    path = npy(tmp_path, digital, {"gain_per_mv": 200})
    np.testing.assert_array_equal(open_recording(path, SAID).ecg_mv, digital / 200)
    path = npy(tmp_path, digital, {"gain_per_mv": [200] * 11 + [100], "baseline": 5})
    gains = np.array([200.0] * 11 + [100.0])[:, None]
    np.testing.assert_allclose(open_recording(path, SAID).ecg_mv, (digital - 5) / gains, rtol=1e-15)
    assert refusal(npy(tmp_path, digital, {"gain_per_mv": [200, 100]}), SAID).code == "unit"


def test_a_gain_beside_a_unit(tmp_path: Path) -> None:
    whole = (ECG_MV * 200).round()
    both = {"gain_per_mv": 200, "unit": "mV"}
    np.testing.assert_array_equal(open_recording(npy(tmp_path, whole, both), SAID).ecg_mv, whole / 200)
    # Fractions are in their unit already.
    np.testing.assert_array_equal(open_recording(npy(tmp_path, ECG_MV, both), SAID).ecg_mv, ECG_MV)
    assert refusal(npy(tmp_path, whole, both | {"unit": "uV"}), SAID).code == "unit"
    nobody_says_unit = Signal(sampling_rate_hz=500, leads=spec.LEADS)
    assert refusal(npy(tmp_path, ECG_MV, {"gain_per_mv": 200}), nobody_says_unit).code == "unit"
    assert refusal(npy(tmp_path, ECG_MV, {"baseline": 5}), SAID).code == "unit"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("gain", 200.0), ("adc_gain", 200), ("scale", 0.005), ("scale_factor", 5.0), ("Resolution", "5 uV")),
        *(("uV_per_bit", 5), ("LSB", [5.0] * 12), ("offset", 512), ("add_offset", -3.5), ("dc offset", "none")),
    ],
)
def test_a_gain_or_offset_that_may_be_meant_either_way(tmp_path: Path, name: str, value: Any) -> None:
    """Units a millivolt or millivolts a unit, added or taken away: only its name says that it changes the samples."""
    digital = (ECG_MV * 200).round().astype(np.int16)
    said = {"fs": 500, "units": "uV", "leads": spec.LEADS}
    item = "baseline" if "set" in name else "gain_per_mv"
    path = npz(tmp_path, signal=digital, **said, **{name: value})
    for error in (refusal(path), refusal(npy(tmp_path, digital, SIDECAR | {"unit": "uV", name: value}))):
        assert error.code == "unit"
        for word in (item, "NAME.json", name.lower().replace("_", "").replace(" ", "")):
            assert word in error.detail
    # The sidecar has the last word, over the unit too, of whatever it is.
    (tmp_path / "ecg.json").write_text(json.dumps({"gain_per_mv": 200, "baseline": 0}))
    np.testing.assert_array_equal(open_recording(path).ecg_mv, digital / 200)
    (tmp_path / "ecg.json").unlink()
    # Fractions are in their unit already; and what changes nothing may be meant as it likes.
    np.testing.assert_array_equal(
        open_recording(npz(tmp_path, signal=ECG_MV, **said, **{name: value})).ecg_mv, ECG_MV / 1000
    )
    neutral = npz(tmp_path, signal=digital, **said, **{name: 0 if "set" in name else 1})
    np.testing.assert_array_equal(open_recording(neutral).ecg_mv, digital / 1000)


def test_a_unit_for_each_lead(tmp_path: Path) -> None:
    path = npy(tmp_path, ECG_MV, {"unit": ["mV"] * 6 + ["uV"] * 6})
    np.testing.assert_allclose(open_recording(path, SAID).ecg_mv[6:], ECG_MV[6:] / 1000)
    assert refusal(npy(tmp_path, ECG_MV, {"unit": ["mV"] * 5}), SAID).code == "unit"


def test_padding_of_a_record_of_many() -> None:
    ecg = ECG_MV.copy()
    ecg[:, :12] = ecg[:, -10:] = 0
    ecg[0, 12] = ecg[:, 20] = 0
    np.testing.assert_array_equal(without_padding(ecg), ecg[:, 12:-10])
    ecg[:, -10:] = np.nan
    np.testing.assert_array_equal(without_padding(ecg), ecg[:, 12:-10])
    # Nine samples may be signal, one lead's zeros are a flat lead, and a recording of nothing is one.
    for kept in (ECG_MV * (np.arange(50) >= 9), ECG_MV * (np.arange(12) > 0)[:, None], np.zeros((12, 50))):
        np.testing.assert_array_equal(without_padding(kept), kept)


def test_which_array(tmp_path: Path) -> None:
    np.testing.assert_array_equal(open_recording(npz(tmp_path, anything=ECG_MV, ages=[1.0, 2.0]), SAID).ecg_mv, ECG_MV)
    path = npz(tmp_path, ECG=ECG_MV, beats=np.ones((7, 2)))
    np.testing.assert_array_equal(open_recording(path, SAID).ecg_mv, ECG_MV)
    for members in ({"ecg": ECG_MV, "signal": ECG_MV}, {"this": ECG_MV, "that": ECG_MV}, {"text": "none"}):
        assert refusal(npz(tmp_path, **members), SAID).code == "unknown_format"


def test_one_record_of_many(tmp_path: Path) -> None:
    many = np.stack([ECG_MV * factor for factor in (1, 2, 3)])
    path = npy(tmp_path, many.transpose(0, 2, 1))
    assert open_recording(f"{path}#2", SAID).path == f"{path}#2"
    for name in ("2", "2.0"):
        np.testing.assert_array_equal(open_recording(f"{path}#{name}", SAID).ecg_mv, many[2])
    for name in (
        f"{path}#3",
        f"{path}#2.5",
        f"{path}#1e0",
        f"{path}#-1",
        f"{path}#",
        f"{path}#two",
        f"{path}#{'9' * 30}",
        str(path),
    ):
        error = refusal(name, SAID)
        assert error.code == "missing"
        assert "3 recordings" in error.detail
    # One of one need not be named; one of an array without an axis of records cannot be.
    np.testing.assert_array_equal(open_recording(npy(tmp_path, many[1:2]), SAID).ecg_mv, many[1])
    assert refusal(f"{npy(tmp_path)}#0", SAID).code == "missing"


def test_a_record_of_many_by_its_id(tmp_path: Path) -> None:
    many = np.stack([ECG_MV * factor for factor in (1, 2, 3)])
    for ids, record_id in (
        ([11, 22, 1], "22"),
        ([11, 22, 1], "22.0"),
        ([11, 22, 1], "22."),
        ([0.0, 1.0, 7.0], "1"),
        (["a b", "b#1", "c"], "b#1"),
        ([1, -5, 2], "-5"),
    ):
        path = npz(tmp_path, ecg=many, exam_id=ids)
        np.testing.assert_array_equal(open_recording(f"{path}#{record_id}", SAID).ecg_mv, many[1])
    path = npz(tmp_path, ecg=many, exam_id=[11, 22, 22])
    assert "names 2" in refusal(f"{path}#22", SAID).detail
    # With ids, no row is named by its number.
    error = refusal(f"{path}#0", SAID)
    assert "examid" in error.detail
    assert "names 0" in error.detail
