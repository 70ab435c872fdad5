"""The rule for bare arrays, by way of NPY files, which say nothing of themselves, and NPZ files, which say all."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from keras_ecg_mae import spec
from keras_ecg_mae.config import Signal
from keras_ecg_mae.errors import ConfigError, UnsaidError
from keras_ecg_mae.recordings import open_recording
from keras_ecg_mae.recordings.formats.arrays import without_padding
from keras_ecg_mae.recordings.isolation import open_isolated
from tests.recordings.conftest import assert_is_as_expected, refusal

ECG_MV = np.random.default_rng(0).normal(size=(12, 50)).round(3)
DIGITAL = (ECG_MV * 200).round().astype(np.int16)
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


def a_member_a_lead(name: str = "{}", ecg: np.ndarray = ECG_MV) -> dict[str, np.ndarray]:
    return {name.format(lead): row for lead, row in zip(spec.LEADS, ecg, strict=True)}


def read_mv(path: Path | str, signal: Signal = SAID) -> np.ndarray:
    return open_recording(path, signal).ecg_mv


@pytest.mark.parametrize("name", ["ecg.json", "ecg.npy.json", "signal.json"])
def test_a_sidecar_says_what_the_array_does_not(tmp_path: Path, name: str) -> None:
    recording = open_recording(npy(tmp_path, sidecar=SIDECAR | {"patient": {"name": "Jane Doe"}}, name=name))
    assert (recording.format, recording.sampling_rate_hz, recording.leads) == ("npy", 500, spec.LEADS)
    assert recording.ecg_mv.dtype == np.float64
    np.testing.assert_array_equal(recording.ecg_mv, ECG_MV)


def test_a_sidecar_may_use_the_names_that_files_use(tmp_path: Path) -> None:
    names = {"fs": 500, "Units": "millivolts", "lead_names": ",".join(spec.LEADS)}
    path = npy(tmp_path, sidecar=names)
    recording = open_recording(path)
    assert (recording.sampling_rate_hz, recording.leads) == (500, spec.LEADS)
    np.testing.assert_array_equal(recording.ecg_mv, ECG_MV)
    assert refusal(npy(tmp_path, sidecar=names | {"sampling_rate_hz": 250})).code == "sampling_rate"


def test_the_nearest_sidecar_says_it_and_settings_come_last(tmp_path: Path) -> None:
    path = npy(tmp_path, sidecar=SIDECAR, name="signal.json")
    (tmp_path / "ecg.json").write_text('{"sampling_rate_hz": 250, "unit": "V"}')
    recording = open_recording(path, SAID)
    assert recording.sampling_rate_hz == 250
    np.testing.assert_allclose(recording.ecg_mv, ECG_MV * 1000)
    path = npz(tmp_path, ecg=ECG_MV, fs=250, unit="V")
    recording = open_recording(path, SAID)
    assert recording.sampling_rate_hz == 250
    np.testing.assert_allclose(recording.ecg_mv, ECG_MV * 1000)


@pytest.mark.parametrize("unit", ["mv", "µV", "\N{GREEK SMALL LETTER MU}v", "microvolts", "UV"])
def test_the_setting_spells_units_as_sidecars_do(tmp_path: Path, unit: str) -> None:
    signal = Signal(sampling_rate_hz=500, unit=unit, leads=spec.LEADS)
    np.testing.assert_allclose(read_mv(npy(tmp_path), signal), ECG_MV if unit == "mv" else ECG_MV / 1000)
    np.testing.assert_array_equal(
        read_mv(npy(tmp_path, sidecar=SIDECAR | {"unit": unit})), read_mv(npy(tmp_path), signal)
    )
    with pytest.raises(ConfigError):
        Signal(unit="mmHg")


def test_what_is_missing_comes_with_the_sidecar_to_write(tmp_path: Path) -> None:
    path = npz(tmp_path, ecg=ECG_MV, fs=500)
    error = refusal(path)
    assert isinstance(error, UnsaidError)
    assert error.code == "unit"
    for word in ("--signal_unit", "--signal_leads", "NAME.json", "signal.json"):
        assert word in error.detail
    assert "--signal_sampling_rate_hz" not in error.detail
    assert error.sidecar_file == str(tmp_path / "ecg.json")
    assert list(error.sidecar) == ["sampling_rate_hz", "unit", "leads"]
    assert error.sidecar["sampling_rate_hz"] == 500
    assert len(error.sidecar["leads"]) == 12  # type: ignore[arg-type]  # a list of names
    # As it comes it says nothing; filled in, it is what was asked for.
    (tmp_path / "ecg.json").write_text(json.dumps(error.sidecar))
    assert refusal(path).code == "unit"
    (tmp_path / "ecg.json").write_text(json.dumps(error.sidecar | {"unit": "mV", "leads": spec.LEADS}))
    np.testing.assert_array_equal(read_mv(path, Signal()), ECG_MV)


def test_it_comes_through_the_boundary(tmp_path: Path) -> None:
    with pytest.raises(UnsaidError) as caught:
        open_isolated(npy(tmp_path), Signal(unit="mV"), apart=True)
    assert caught.value.sidecar["unit"] == "mV"
    assert isinstance(caught.value.sidecar["sampling_rate_hz"], str)


@pytest.mark.parametrize(
    ("key", "value", "code"),
    [
        *(("sampling_rate_hz", value, "sampling_rate") for value in ("500", True, 0, float("nan"), None)),
        *(("unit", value, "unit") for value in ("mmHg", 1, ["mV", 1], ["mV", "uV"])),
        *(("leads", value, "leads") for value in ("I,II", ["I", 2], ["I"] * 257)),
        *(("gain_per_mv", value, "unit") for value in (0, "1000", [1, 0])),
        ("baseline", ["0"], "unit"),
    ],
)
def test_a_sidecar_is_read_strictly(tmp_path: Path, key: str, value: object, code: str) -> None:
    assert refusal(npy(tmp_path, sidecar=SIDECAR | {key: value}), SAID).code == code


@pytest.mark.parametrize("content", ["", "[]", "{", "null", "[" * 100_000, '{"unit": "mV"} {}'])
def test_a_sidecar_is_one_json_object(tmp_path: Path, content: str) -> None:
    assert refusal(npy(tmp_path, sidecar=content), SAID).code == "malformed"


def test_messages_quote_nothing_from_a_sidecar_or_file(tmp_path: Path) -> None:
    for key in SIDECAR:
        assert "Doe" not in str(refusal(npy(tmp_path, sidecar=SIDECAR | {key: ["Jane Doe", "1950"]}), SAID))
    (tmp_path / "ecg.json").unlink()
    assert "Doe" not in str(refusal(npz(tmp_path, Doe=ECG_MV, Jane=ECG_MV), SAID))
    assert "Doe" not in str(refusal(npz(tmp_path, ecg=ECG_MV, units="Doe, Jane"), SAID))


@pytest.mark.parametrize(
    ("key", "value", "code"),
    [
        ("sampling_rate_hz", 400, "sampling_rate"),
        ("unit", "uV", "unit"),
        ("leads", list(spec.LEADS[::-1]), "leads"),
        ("leads", list(spec.LEADS[:8]), "leads"),
    ],
)
def test_file_and_sidecar_must_agree(tmp_path: Path, key: str, value: object, code: str) -> None:
    path = npz(tmp_path, ecg=ECG_MV, fs=500, unit="millivolts", leads=[lead.upper() for lead in spec.LEADS])
    (tmp_path / "ecg.json").write_text(json.dumps(SIDECAR))
    np.testing.assert_array_equal(read_mv(path, Signal()), ECG_MV)
    (tmp_path / "ecg.json").write_text(json.dumps({key: value}))
    assert refusal(path).code == code


def test_two_names_in_a_file_that_disagree(tmp_path: Path) -> None:
    assert open_recording(npz(tmp_path, ecg=ECG_MV, fs=500, sampling_rate=500.0), SAID).sampling_rate_hz == 500
    assert refusal(npz(tmp_path, ecg=ECG_MV, fs=500, sampling_rate=501), SAID).code == "sampling_rate"


def test_a_count_of_leads_is_not_their_names(tmp_path: Path) -> None:
    assert open_recording(npz(tmp_path, ecg=ECG_MV, leads=12), SAID).leads == spec.LEADS


def test_names_that_are_no_leads_are_not_carried(tmp_path: Path) -> None:
    names = (*spec.LEADS[:11], "Jane Doe")
    assert open_recording(npz(tmp_path, ecg=ECG_MV, leads=names), SAID).leads == (*spec.LEADS[:11], "signal 12")
    names = ("MDC_ECG_LEAD_I", "v4r", "X", "MLII")
    assert open_recording(npz(tmp_path, ecg=ECG_MV[:4], leads=names), SAID).leads == names


@pytest.mark.parametrize("shape", [(12, 12), (11, 50), (50, 13)])
def test_the_number_of_leads_tells_which_way_round(tmp_path: Path, shape: tuple[int, ...]) -> None:
    for array in (ECG_MV, ECG_MV.T, np.asfortranarray(ECG_MV)):
        np.testing.assert_array_equal(read_mv(npy(tmp_path, array)), ECG_MV)
    error = refusal(npy(tmp_path, np.ones(shape)), SAID)
    assert error.code == "leads"
    assert str(shape) in error.detail


def test_axes_of_length_one(tmp_path: Path) -> None:
    for array in (ECG_MV[None], ECG_MV.T[..., None], ECG_MV[:, None], ECG_MV[None, None], ECG_MV[:, None, :, None]):
        np.testing.assert_array_equal(read_mv(npy(tmp_path, array)), ECG_MV)
    many = np.stack([ECG_MV, 2 * ECG_MV])
    for array in (many[:, None], many.transpose(0, 2, 1)[:, None], many[..., None], many[None], many[:, None, :, None]):
        np.testing.assert_array_equal(read_mv(f"{npy(tmp_path, array)}#1"), 2 * ECG_MV)
    np.testing.assert_array_equal(read_mv(npz(tmp_path, **a_member_a_lead(ecg=ECG_MV[:, None]))), ECG_MV)


@pytest.mark.parametrize("shape", [(), (50,), (12, 0), (2, 2, 2, 2)])
def test_shapes_of_no_recording(tmp_path: Path, shape: tuple[int, ...]) -> None:
    assert refusal(npy(tmp_path, np.ones(shape)), SAID).code == "unknown_format"


def test_integers_need_a_gain_or_microvolts(tmp_path: Path) -> None:
    error = refusal(npy(tmp_path, DIGITAL), SAID)
    assert isinstance(error, UnsaidError)
    assert (error.code, list(error.sidecar)) == ("unit", ["sampling_rate_hz", "leads", "gain_per_mv"])
    microvolts = Signal(sampling_rate_hz=500, unit="uV", leads=spec.LEADS)
    np.testing.assert_array_equal(read_mv(npy(tmp_path, DIGITAL), microvolts), DIGITAL / 1000)
    np.testing.assert_array_equal(read_mv(npy(tmp_path, DIGITAL, {"gain_per_mv": 200})), DIGITAL / 200)
    path = npy(tmp_path, DIGITAL, {"gain_per_mv": [200] * 11 + [100], "baseline": 5})
    gains = np.array([200.0] * 11 + [100.0])[:, None]
    np.testing.assert_allclose(read_mv(path), (DIGITAL - 5) / gains, rtol=1e-15)
    assert refusal(npy(tmp_path, DIGITAL, {"gain_per_mv": [200, 100]}), SAID).code == "unit"


def test_a_gain_beside_a_unit(tmp_path: Path) -> None:
    whole = (ECG_MV * 200).round()
    both = {"gain_per_mv": 200, "unit": "mV"}
    np.testing.assert_array_equal(read_mv(npy(tmp_path, whole, both)), whole / 200)
    # Fractions are in their unit already.
    np.testing.assert_array_equal(read_mv(npy(tmp_path, ECG_MV, both)), ECG_MV)
    nobody_says_unit = Signal(sampling_rate_hz=500, leads=spec.LEADS)
    assert refusal(npy(tmp_path, ECG_MV, {"gain_per_mv": 200}), nobody_says_unit).code == "unit"
    assert refusal(npy(tmp_path, ECG_MV, {"baseline": 5}), SAID).code == "unit"


@pytest.mark.parametrize("name", ["gain", "adc_gain", "scale_factor", "Resolution", "uV_per_bit", "LSB", "add_offset"])
def test_a_gain_or_offset_that_may_be_meant_either_way(tmp_path: Path, name: str) -> None:
    """Units a millivolt or millivolts a unit, added or taken away: only its name says that it changes the samples."""
    said: dict[str, Any] = {"fs": 500, "unit": "uV", "leads": spec.LEADS, name: 5}
    path = npz(tmp_path, signal=DIGITAL, **said)
    error = refusal(path)
    assert error.code == "unit"
    assert "gain_per_mv" in error.detail
    # The sidecar has the last word.
    (tmp_path / "ecg.json").write_text(json.dumps({"gain_per_mv": 200}))
    np.testing.assert_array_equal(read_mv(path), DIGITAL / 200)
    (tmp_path / "ecg.json").unlink()
    # Fractions are in their unit already.
    np.testing.assert_array_equal(read_mv(npz(tmp_path, signal=ECG_MV, **said)), ECG_MV / 1000)


def test_a_unit_for_each_lead(tmp_path: Path) -> None:
    np.testing.assert_allclose(read_mv(npy(tmp_path, ECG_MV, {"unit": ["mV"] * 6 + ["uV"] * 6}))[6:], ECG_MV[6:] / 1000)
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
    np.testing.assert_array_equal(read_mv(npz(tmp_path, anything=ECG_MV, ages=[1.0, 2.0])), ECG_MV)
    np.testing.assert_array_equal(read_mv(npz(tmp_path, ECG=ECG_MV, beats=np.ones((7, 2)))), ECG_MV)
    assert refusal(npz(tmp_path, text="none"), SAID).code == "unknown_format"
    path = npz(tmp_path, this=ECG_MV, that=2 * ECG_MV)
    error = refusal(path, SAID)
    assert error.code == "unknown_format"
    assert "(12, 50), (12, 50)" in error.detail
    assert isinstance(error, UnsaidError)
    assert "array" in error.sidecar
    (tmp_path / "ecg.json").write_text('{"array": "that"}')
    np.testing.assert_array_equal(read_mv(path), 2 * ECG_MV)


@pytest.mark.parametrize("name", ["{}", "lead_{}", "strip_{}", "MDC_ECG_LEAD_{}", "ecg {} raw"])
def test_an_array_a_lead(tmp_path: Path, name: str) -> None:
    """Named after it, in any order, beside averaged beats and other things."""
    others = {"age": 70, "fs": 500, "unit": "mV"} | a_member_a_lead("{}_median", ECG_MV[:, :9])
    members = dict(reversed(a_member_a_lead(name).items())) | others
    recording = open_recording(npz(tmp_path, **members))
    assert (recording.leads, recording.sampling_rate_hz) == (spec.LEADS, 500)
    np.testing.assert_array_equal(recording.ecg_mv, ECG_MV)


@pytest.mark.parametrize("name", ["ml4h.hd5", "per_lead.mat", "per_lead.npz"])
def test_an_array_a_lead_in_files_of_others(shared: Path, name: str) -> None:
    """Case W13: the values were computed without this package."""
    case = shared / "cases" / "W13"
    signal = Signal() if name.endswith("npz") else Signal(sampling_rate_hz=100, unit="mV")
    assert_is_as_expected(open_recording(case / name, signal), case)


def test_an_array_a_lead_for_many_records(tmp_path: Path) -> None:
    many = np.stack([ECG_MV, 2 * ECG_MV, 3 * ECG_MV], axis=1)
    path = npz(tmp_path, **a_member_a_lead(ecg=many), exam_id=[7, 8, 9])
    np.testing.assert_array_equal(read_mv(f"{path}#8"), 2 * ECG_MV)
    assert refusal(path, SAID).code == "missing"


def test_arrays_of_leads_that_are_not_one_recording(tmp_path: Path) -> None:
    leads = a_member_a_lead()
    eight = {lead: row for lead, row in leads.items() if lead not in ("III", "aVR", "aVL", "aVF")}
    np.testing.assert_array_equal(read_mv(npz(tmp_path, **eight)), ECG_MV[[0, 1, *range(6, 12)]])
    assert refusal(npz(tmp_path, I=ECG_MV[0], II=ECG_MV[1]), SAID).code == "unknown_format"
    assert refusal(npz(tmp_path, **leads | {"V6": ECG_MV[0, :-1]}), SAID).code == "malformed"
    assert refusal(npz(tmp_path, **leads | {"v6": ECG_MV[0]}), SAID).code == "leads"
    # Two of them, or an array of all leads beside: the sidecar says which.
    path = npz(tmp_path, **a_member_a_lead("visit 1 {}"), **a_member_a_lead("visit 2 {}", 2 * ECG_MV))
    assert refusal(path, SAID).code == "unknown_format"
    (tmp_path / "ecg.json").write_text('{"array": "visit 2 *"}')
    np.testing.assert_array_equal(read_mv(path), 2 * ECG_MV)


def test_one_record_of_many(tmp_path: Path) -> None:
    many = np.stack([ECG_MV * factor for factor in (1, 2, 3)])
    path = npy(tmp_path, many.transpose(0, 2, 1))
    for name in ("2", "2.0"):
        np.testing.assert_array_equal(read_mv(f"{path}#{name}"), many[2])
    for name in ("#3", "#2.5", "#1e0", "#-1", "#", "#two", f"#{'9' * 30}", ""):
        error = refusal(f"{path}{name}", SAID)
        assert error.code == "missing"
        assert "3 recordings" in error.detail
    # One of one need not be named.
    np.testing.assert_array_equal(read_mv(npy(tmp_path, many[1:2])), many[1])
    assert refusal(f"{npy(tmp_path)}#7", SAID).code == "missing"


def test_a_record_of_many_by_its_id(tmp_path: Path) -> None:
    many = np.stack([ECG_MV * factor for factor in (1, 2, 3)])
    for ids, record_id in (
        *(([11, 22, 1], record_id) for record_id in ("22", "22.0", "22.")),
        ([0.0, 1.0, 7.0], "1"),
        (["a b", "b#1", "c"], "b#1"),
        ([1, -5, 2], "-5"),
    ):
        path = npz(tmp_path, ecg=many, exam_id=ids)
        np.testing.assert_array_equal(read_mv(f"{path}#{record_id}"), many[1])
    path = npz(tmp_path, ecg=many, exam_id=[11, 22, 22])
    assert "names 2" in refusal(f"{path}#22", SAID).detail
    # With ids, no row is named by its number.
    assert "examid" in refusal(f"{path}#0", SAID).detail
