import csv
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_ecg_mae import spec
from keras_ecg_mae.errors import RecordingError
from keras_ecg_mae.recordings.conform import conform
from keras_ecg_mae.recordings.leads_and_units import lead_name
from keras_ecg_mae.recordings.open import open_recording
from keras_ecg_mae.recordings.recording import Recording


def limb_and_chest_leads(samples: int = 5000, seed: int = 0) -> np.ndarray:
    """Twelve leads that obey Einthoven and Goldberger, in quarters of 1/64 mV so that float32 holds every sum."""
    generator = np.random.default_rng(seed)
    steps = generator.integers(-64, 64, (8, samples)) / 64.0
    i, ii, chest = steps[0], steps[1], steps[2:]
    return np.stack([i, ii, ii - i, -(i + ii) / 2, i - ii / 2, ii - i / 2, *chest])


def recording(ecg_mv: np.ndarray, leads: tuple[str, ...] = spec.LEADS, rate_hz: float = 500) -> Recording:
    return Recording(path="ward/1", leads=leads, sampling_rate_hz=rate_hz, ecg_mv=ecg_mv, format="test")


def sine(frequency_hz: float, rate_hz: float, samples: int, offset_mv: float = 0.0) -> np.ndarray:
    wave = np.sin(2 * np.pi * frequency_hz * np.arange(samples) / rate_hz + 0.3)
    return np.tile(wave + offset_mv, (12, 1))


def refused(recorded: Recording, code: str, **options: object) -> str:
    with pytest.raises(RecordingError) as caught:
        conform(recorded, **options)  # type: ignore[arg-type]  # each test gives valid or deliberately wrong options
    assert caught.value.code == code
    assert caught.value.path == "ward/1"
    return caught.value.detail


def test_a_conforming_recording_stays_as_it_is() -> None:
    ecg_mv = limb_and_chest_leads()
    conformed = conform(recording(ecg_mv))
    assert conformed.shape == (12, 5000)
    assert conformed.dtype == np.float32
    assert conformed.flags.c_contiguous
    np.testing.assert_array_equal(conformed, ecg_mv)


@given(order=st.permutations(range(14)))
@settings(deadline=None, max_examples=20)
def test_leads_are_ordered_by_name_and_others_left_out(order: list[int]) -> None:
    ecg_mv = np.concatenate([limb_and_chest_leads(), np.ones((2, 5000))])
    names = (*spec.LEADS, "V4R", "")
    shuffled = recording(ecg_mv[order], tuple(names[row] for row in order))
    np.testing.assert_array_equal(conform(shuffled), ecg_mv[:12])


@pytest.mark.parametrize(
    ("spelling", "lead"),
    [
        ("avr", "aVR"),
        ("AVL", "aVL"),
        (" aVF ", "aVF"),
        ("v1", "V1"),
        ("MDC_ECG_LEAD_AVR", "aVR"),
        ("MDC_ECG_LEAD_V6", "V6"),
        ("Lead I", "I"),
        ("LEAD_II", "II"),
        ("ECG V3", "V3"),
        ("EKG aVF", "aVF"),
        ("DI", "I"),
        ("DII", "II"),
        ("DIII", "III"),
        ("D2", "II"),
        ("ECG Lead AVR", "aVR"),
        ("EKG:V1", "V1"),
        ("C1", None),
        ("V10", None),
        ("MLII", None),
        ("-aVR", None),
        ("II lead", None),
        ("", None),
    ],
)
def test_spellings(spelling: str, lead: str | None) -> None:
    assert lead_name(spelling) == lead


def test_chest_electrodes_as_iec_names_them() -> None:
    ecg_mv = limb_and_chest_leads()
    leads = ("D1", "D2", "D3", *spec.LEADS[3:6], "C1", "c2", "Lead C3", "ECG C4", "C5", "C6")
    np.testing.assert_array_equal(conform(recording(ecg_mv, leads)), conform(recording(ecg_mv)))
    # Five of them, some beside a V, and those of an electroencephalogram are others.
    more_mv = np.vstack([ecg_mv, ecg_mv[:2]])
    np.testing.assert_array_equal(conform(recording(more_mv, (*spec.LEADS, "C3", "C4"))), conform(recording(ecg_mv)))
    for leads in ((*spec.LEADS[:6], *(f"C{n}" for n in range(1, 6)), "V6"), tuple(f"C{n}" for n in range(1, 13))):
        with pytest.raises(RecordingError) as caught:
            conform(recording(ecg_mv, leads))
        assert caught.value.code == "leads"


@given(kept=st.sets(st.sampled_from(range(6)), min_size=2, max_size=5))
@settings(deadline=None, max_examples=30)
def test_any_two_limb_leads_give_the_others(kept: set[int]) -> None:
    ecg_mv = limb_and_chest_leads()
    rows = [*sorted(kept), *range(6, 12)]
    partial = recording(ecg_mv[rows], tuple(spec.LEADS[row] for row in rows))
    np.testing.assert_allclose(conform(partial), ecg_mv, atol=1e-6)


@pytest.mark.parametrize("kept", [("I", "II"), ("I", "III"), ("II", "III"), ("I", "II", "III")])
def test_two_einthoven_leads_give_the_others_exactly(kept: tuple[str, ...]) -> None:
    ecg_mv = limb_and_chest_leads()
    leads = (*kept, *spec.LEADS[6:])
    partial = recording(ecg_mv[[spec.LEADS.index(lead) for lead in leads]], leads)
    np.testing.assert_array_equal(conform(partial), ecg_mv)


def test_recorded_leads_are_not_replaced_by_derived_ones() -> None:
    ecg_mv = limb_and_chest_leads()
    ecg_mv[2] += 0.25
    np.testing.assert_array_equal(conform(recording(ecg_mv))[2], ecg_mv[2])


def test_missing_and_doubled_leads() -> None:
    ecg_mv = limb_and_chest_leads()
    chest = spec.LEADS[6:]
    without = tuple(lead for lead in spec.LEADS if lead not in ("V2", "V5"))
    assert "missing: V2, V5" in refused(recording(ecg_mv[:10], without), "leads")
    assert "missing: I, III, aVR, aVL, aVF" in refused(recording(ecg_mv[:7], ("II", *chest)), "leads")
    assert "lead aVR twice" in refused(recording(np.tile(ecg_mv, (2, 1))[:13], (*spec.LEADS, "avr")), "leads")
    names = ("Doe", *(f"channel {row}" for row in range(11)))
    detail = refused(recording(ecg_mv, names), "leads")
    assert "Received none of them among 12 signals" in detail
    assert "Doe" not in detail


@pytest.mark.parametrize("rate_hz", [100, 240, 257, 333.25, 360, 400, 977, 1000, 2000, 10_000])
def test_resampling_keeps_amplitude_and_phase(rate_hz: float) -> None:
    conformed = conform(recording(sine(12.0, rate_hz, int(rate_hz * 14), offset_mv=5.0), rate_hz=rate_hz))
    error = np.abs(conformed - sine(12.0, 500, 5000, offset_mv=5.0))
    # The filter is flat to a part in five thousand; only a recording's own first 0.2 s lack their past.
    assert error[:, 100:].max() < 2e-4
    assert error.max() < 0.2


@pytest.mark.parametrize("rate_hz", [100, 257, 333.25, 360, 1000, 10_000])
def test_the_middle_is_resampled_from_both_sides(rate_hz: float) -> None:
    samples = int(rate_hz * 14)
    recorded = recording(sine(0.1, rate_hz, samples) + sine(12.0, rate_hz, samples), rate_hz=rate_hz)
    conformed = conform(recorded, long_recordings="middle")
    starts_s = (samples / rate_hz - 10) / 2 + np.linspace(-0.012, 0.012, 4801)
    seconds = starts_s[:, None] + np.array([0, 700, 2600, 4999]) / 500
    expected = np.sin(2 * np.pi * 0.1 * seconds + 0.3) + np.sin(2 * np.pi * 12.0 * seconds + 0.3)
    # For one start within a sample of the middle, all of the window fits, its first and last sample too.
    error = np.abs(expected - conformed[0, [0, 700, 2600, 4999]]).max(axis=1)
    assert error.min() < 8e-4


def test_downsampling_removes_what_500_hz_cannot_hold() -> None:
    kept = sine(20.0, 2000, 22_000)
    aliased = sine(320.0, 2000, 22_000)  # would appear at 180 Hz
    conformed = conform(recording(kept + aliased, rate_hz=2000))
    np.testing.assert_allclose(conformed[:, 100:], conform(recording(kept, rate_hz=2000))[:, 100:], atol=2e-4)


@pytest.mark.parametrize("rate_hz", [250, 257, 1000])
def test_neither_offset_nor_drift_rings_at_the_ends(rate_hz: int) -> None:
    seconds = np.arange(10 * rate_hz) / rate_hz
    line = np.tile(3.0 + 0.2 * seconds, (12, 1))
    np.testing.assert_allclose(
        conform(recording(line, rate_hz=rate_hz)), np.tile(3.0 + 0.2 * np.arange(5000) / 500, (12, 1)), atol=2e-6
    )


def test_which_ten_seconds() -> None:
    ecg_mv = limb_and_chest_leads(7001)
    np.testing.assert_array_equal(conform(recording(ecg_mv)), ecg_mv[:, :5000])
    np.testing.assert_array_equal(conform(recording(ecg_mv), long_recordings="middle"), ecg_mv[:, 1000:6000])
    assert "Received 14.002 s" in refused(recording(ecg_mv), "too_long", long_recordings="refuse")
    with pytest.raises(ValueError, match="first, middle or refuse"):
        conform(recording(ecg_mv), long_recordings="last")


@pytest.mark.parametrize("rate_hz", [100, 257, 360, 500, 1000])
def test_ten_seconds_are_enough_and_not_too_long(rate_hz: int) -> None:
    assert conform(recording(sine(3, rate_hz, 10 * rate_hz), rate_hz=rate_hz), long_recordings="refuse").any()


def test_too_short() -> None:
    assert "Received 9.998 s" in refused(recording(limb_and_chest_leads(4999)), "too_short")
    assert "Received 7.300 s" in refused(recording(sine(3, 400, 2920), rate_hz=400), "too_short")


@pytest.mark.parametrize("rate_hz", [99.9, 10_001, 1e-3, 1e9])
def test_rates_out_of_range(rate_hz: float) -> None:
    assert "100 to 10000 Hz" in refused(recording(limb_and_chest_leads(), rate_hz=rate_hz), "sampling_rate")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_samples_that_are_not_finite(value: float) -> None:
    ecg_mv = limb_and_chest_leads(6000)
    ecg_mv[7, 123] = value
    assert f"Received {value} in lead V2 at sample 123." in refused(recording(ecg_mv), "not_finite")
    ecg_mv[8, 4000:] = value
    assert "and 1000 more" in refused(recording(ecg_mv), "not_finite")


def test_what_is_not_finite_outside_the_ten_seconds_or_in_other_leads_does_no_harm() -> None:
    ecg_mv = limb_and_chest_leads(6000)
    ecg_mv[7, 5000:] = np.nan
    assert np.isfinite(conform(recording(ecg_mv))).all()
    ecg_mv = np.concatenate([limb_and_chest_leads(), np.full((1, 5000), np.nan)])
    assert np.isfinite(conform(recording(ecg_mv, (*spec.LEADS, "Resp")))).all()


@pytest.mark.parametrize("rate_hz", [500, 360])
@pytest.mark.parametrize("peak_mv", [1e3, 1e30, 1e307])
def test_absurd_amplitudes_are_refused_without_a_warning(rate_hz: int, peak_mv: float) -> None:
    ecg_mv = limb_and_chest_leads() * peak_mv
    refused(recording(ecg_mv, rate_hz=rate_hz), "amplitude")
    refused(recording(ecg_mv[[0, 1, *range(6, 12)]], ("I", "II", *spec.LEADS[6:]), rate_hz), "amplitude")


@pytest.mark.parametrize("rate_hz", [500, 257])
def test_flat_leads(rate_hz: int) -> None:
    ecg_mv = sine(3, rate_hz, 11 * rate_hz)
    ecg_mv[[3, 9]] = -0.7
    recorded = recording(ecg_mv, rate_hz=rate_hz)
    assert "at most 1 flat leads. Received 2: aVR, V4" in refused(recorded, "flat_leads", max_flat_leads=1)
    assert conform(recorded, max_flat_leads=2).shape == (12, 5000)


def test_real_recordings(shared: Path) -> None:
    """All 357: those with flat leads are refused, by the count their table states, and no others."""
    with open(shared / "data" / "records.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    accepted = 0
    for row in rows:
        recorded = open_recording(shared / "data" / row["path"])
        assert recorded.sampling_rate_hz == float(row["sampling_rate"])
        if row["flat_leads"] == "0":
            assert np.isfinite(conform(recorded, long_recordings="middle")).all()
            accepted += 1
        else:
            with pytest.raises(RecordingError, match=f"Received {row['flat_leads']}: V") as caught:
                conform(recorded)
            assert caught.value.code == "flat_leads"
            conform(recorded, max_flat_leads=6)
    assert (accepted, len(rows)) == (351, 357)


def test_real_derived_leads_match_the_recorded_ones(shared: Path) -> None:
    recorded = open_recording(shared / "data" / "wfdb" / "ptbxl" / "HR00001")
    eight = [0, 1, *range(6, 12)]
    derived = conform(recording(recorded.ecg_mv[eight], tuple(recorded.leads[row] for row in eight)))
    # The device rounded each lead to 1 uV on its own.
    np.testing.assert_allclose(derived, recorded.ecg_mv, atol=2.1e-3)
