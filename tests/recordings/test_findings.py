"""What is found doubtful, on both sides of each threshold."""

import csv
from collections import Counter
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_ecg_mae import spec
from keras_ecg_mae.config import FINDINGS, Quality
from keras_ecg_mae.errors import ConfigError, RecordingError
from keras_ecg_mae.recordings.conform import derive_limb_leads
from keras_ecg_mae.recordings.findings import Finding, assess, assess_recording, reject
from keras_ecg_mae.recordings.open import open_recording
from keras_ecg_mae.recordings.recording import Recording

QUALITY = Quality()
INDEPENDENT = ("I", "II", "V1", "V2", "V3", "V4", "V5", "V6")


def heart(rate_hz: float = 500, seconds: float = 10) -> np.ndarray:
    """Twelve leads, `(12, samples)` mV, of P, QRS and T once a second, upright in I, II and V6."""
    time_s = np.arange(round(seconds * rate_hz)) / rate_hz

    def wave(at_s: float, width_s: float) -> np.ndarray:
        bell: np.ndarray = np.exp(-0.5 * ((time_s % 1.0 - at_s) / width_s) ** 2)
        return bell

    sizes = (0.8, 1.2, -0.6, -0.4, 0.5, 1.4, 1.3, 1.1)
    eight = np.stack([0.1 * wave(0.35, 0.02) + size * wave(0.5, 0.015) + 0.2 * wave(0.75, 0.05) for size in sizes])
    return derive_limb_leads(eight, INDEPENDENT)


def found(
    ecg_mv: np.ndarray, quality: Quality = QUALITY, rate_hz: float = 500, leads: tuple[str, ...] = spec.LEADS
) -> dict[tuple[str, str | None], float]:
    return {(finding.code, finding.lead): finding.value for finding in assess(ecg_mv, leads, rate_hz, quality)}


@pytest.mark.parametrize("rate_hz", [100, 250, 257, 500, 1000])
def test_nothing_is_found_in_a_clean_recording(rate_hz: float) -> None:
    assert found(heart(rate_hz), rate_hz=rate_hz) == {}
    assert found(heart(rate_hz) + 300.0, rate_hz=rate_hz) == {}  # electrodes add a constant voltage


def test_leads_without_a_signal() -> None:
    ecg_mv = heart()
    ecg_mv[7], ecg_mv[8], ecg_mv[10] = 0.0, 0.4, np.nan
    ecg_mv[9, [5, 77]] = np.nan, np.inf
    assert found(ecg_mv) == {
        ("missing_lead", "V2"): 0.0,
        ("missing_lead", "V5"): 0.0,
        ("not_finite", "V4"): 2.0,
        ("flat_lead", "V3"): 10.0,
    }


def test_leads_that_were_not_recorded() -> None:
    rows = [1, *range(6, 11)]
    missing = found(heart()[rows], leads=tuple(spec.LEADS[row] for row in rows))
    assert set(missing) == {("missing_lead", lead) for lead in ("I", "III", "aVR", "aVL", "aVF", "V6")}
    eight = [spec.LEADS.index(lead) for lead in INDEPENDENT]
    assert found(heart()[eight], leads=INDEPENDENT) == {}


def test_a_lead_that_falls_off_and_comes_back() -> None:
    for seconds in (0.9, 3.0):
        ecg_mv = heart()
        ecg_mv[11] += 0.1 * np.sin(np.arange(5000) / 500)
        ecg_mv[11, 1000 : 1000 + round(500 * seconds)] = 0.07
        # Whole pieces of an eighth of a second are counted.
        expected = {("flat_lead", "V6"): pytest.approx(seconds, abs=0.25)} if seconds > QUALITY.flat_s else {}
        assert found(ecg_mv) == expected


def test_other_channels_are_not_looked_at_and_the_order_of_leads_changes_nothing() -> None:
    rng = np.random.default_rng(0)
    ecg_mv = derive_limb_leads(np.cumsum(rng.normal(scale=0.02, size=(8, 5000)), axis=1), INDEPENDENT)
    findings = assess_recording(Recording("a", spec.LEADS, 500, ecg_mv, "test"), QUALITY)
    assert findings
    names = ("Resp", *reversed(spec.LEADS), "")
    more_mv = np.concatenate([np.full((1, 5000), 1e6), ecg_mv[::-1], np.full((1, 5000), np.nan)])
    assert assess_recording(Recording("a", names, 500, more_mv, "test"), QUALITY) == findings


@pytest.mark.parametrize("rate_hz", [100, 257, 360, 500, 1000])
def test_too_short(rate_hz: int) -> None:
    samples = 4999 * rate_hz // 500 + 1  # what conform needs: the last of 5000 samples lies within
    assert found(heart(rate_hz)[:, :samples], rate_hz=rate_hz) == {}
    assert found(heart(rate_hz)[:, : samples - 1], rate_hz=rate_hz) == {("too_short", None): (samples - 1) / rate_hz}


def test_microvolts_are_found_in_each_lead_and_volts_in_all() -> None:
    ecg_mv = heart()
    ranges_mv = np.ptp(ecg_mv, axis=1)
    assert found(ecg_mv * 1000) == pytest.approx(
        {("amplitude", lead): 1000 * range_mv for lead, range_mv in zip(spec.LEADS, ranges_mv, strict=True)}
    )
    assert found(ecg_mv / 1000) == pytest.approx({("amplitude", None): ranges_mv.max() / 1000})


@pytest.mark.parametrize(
    ("range_mv", "expected"), [(0.04, True), (0.06, False), (9.9, False), (10.1, True), (1e30, True), (1e308, True)]
)
def test_amplitudes(range_mv: float, expected: bool) -> None:
    ecg_mv = heart()
    ecg_mv[11] *= range_mv / np.ptp(ecg_mv[11])
    value = found(ecg_mv).get(("amplitude", "V6"))
    assert (value is not None) == expected
    assert value is None or value == pytest.approx(range_mv)


def test_the_tops_of_clipped_beats() -> None:
    ecg_mv = heart()
    for clipped_mv, expected in ((1.39, False), (0.8, True)):
        clipped = ecg_mv.copy()
        clipped[9] = np.minimum(clipped[9], clipped_mv)
        assert (("clipping", "V4") in found(clipped)) == expected
    share = np.mean(ecg_mv[9] >= 0.8)
    assert found(clipped)["clipping", "V4"] == pytest.approx(share, abs=1e-9)
    assert found(-clipped)["clipping", "V4"] == pytest.approx(share, abs=1e-9)
    assert found(clipped, replace(QUALITY, clipping_share=share + 0.001)) == {}


def test_a_level_baseline_is_no_clipping() -> None:
    ecg_mv = np.maximum(heart(), 0.05)  # level at its lower end for most of the time, and nowhere for a second
    assert not {code for code, _ in found(ecg_mv)} & {"clipping"}


@pytest.mark.parametrize("rate_hz", [250, 500, 1000])
@pytest.mark.parametrize("mains_hz", [49.8, 50, 60, 60.2])
@pytest.mark.parametrize("range_mv", [0.04, 0.06])
def test_mains_hum(rate_hz: float, mains_hz: float, range_mv: float) -> None:
    ecg_mv = heart(rate_hz)
    time_s = np.arange(ecg_mv.shape[1]) / rate_hz
    ecg_mv[6] += range_mv / 2 * np.sin(2 * np.pi * mains_hz * time_s)
    expected = {("mains_hum", "V1"): range_mv} if range_mv > QUALITY.mains_hum_mv else {}
    assert found(ecg_mv, rate_hz=rate_hz) == pytest.approx(expected, rel=0.02)


def test_noise_of_all_frequencies_and_slender_beats_are_no_hum() -> None:
    ecg_mv = heart() + np.random.default_rng(0).normal(scale=0.1, size=(12, 5000))
    assert not [lead for code, lead in found(ecg_mv) if code == "mains_hum"]
    ecg_mv = heart()
    ecg_mv[:, 250::500] += 3.0  # a spike of 2 ms has as much at 50 Hz as beside it
    assert not [lead for code, lead in found(ecg_mv) if code == "mains_hum"]


@pytest.mark.parametrize("wander_hz", [0.1, 0.25, 0.4])
def test_baseline_wander(wander_hz: float) -> None:
    ecg_mv, time_s = heart(), np.arange(5000) / 500
    for range_mv, expected in ((0.5, False), (1.2, True)):
        wandering = ecg_mv.copy()
        wandering[10] += range_mv / 2 * np.sin(2 * np.pi * wander_hz * time_s)
        assert (("baseline_wander", "V5") in found(wandering)) == expected
    assert {lead for code, lead in found(wandering) if code == "baseline_wander"} == {"V5"}
    assert 0.6 < found(wandering)["baseline_wander", "V5"] <= 1.2


def test_a_drift_wanders_and_a_fast_heart_does_not() -> None:
    assert ("baseline_wander", "I") in found(heart() + np.linspace(0, 1, 5000))
    tall = heart() * 3
    assert found(tall) == {}


@pytest.mark.parametrize("lead", ["II", "aVR", "aVL", "aVF"])
def test_a_limb_lead_that_the_others_contradict(lead: str) -> None:
    ecg_mv, time_s = heart(), np.arange(5000) / 500
    for size_mv, expected in ((0.03, False), (0.08, True)):
        contradicted = ecg_mv + np.random.default_rng(0).choice([-0.005, 0.005], (12, 5000))  # steps of a device
        contradicted[spec.LEADS.index(lead)] += size_mv * np.sin(2 * np.pi * 1.3 * time_s) + 0.7
        assert (("einthoven", lead) in found(contradicted)) == expected
        assert {where for code, where in found(contradicted) if code == "einthoven"} <= {lead}


def test_gains_that_break_einthovens_law() -> None:
    ecg_mv = heart()
    ecg_mv[2] *= 3.0
    assert {lead for code, lead in found(ecg_mv) if code == "einthoven"} >= {"II"}
    assert found(ecg_mv[[0, 2, *range(6, 12)]], leads=("I", "III", *spec.LEADS[6:])) == {}  # nothing to hold it against


def exchanged(ecg_mv: np.ndarray, electrodes: str) -> np.ndarray:
    """What is recorded with two electrodes exchanged: Krasteva et al., Sensors 2019;19:2920."""
    first, second, third = ecg_mv[:3]
    pairs = {
        "right and left arm": (-first, third),
        "right arm and left leg": (-third, -second),
        "left arm and left leg": (second, first),
        "right arm and right leg": (-third, 0.02 * first),
        "left arm and right leg": (second, second + 0.02 * first),
    }
    return derive_limb_leads(np.stack([*pairs[electrodes], *ecg_mv[6:]]), INDEPENDENT)


@pytest.mark.parametrize(
    ("electrodes", "lead"),
    [
        ("right and left arm", "I"),
        ("right arm and left leg", "II"),
        ("left arm and left leg", None),
        ("right arm and right leg", "II"),
        ("left arm and right leg", "III"),
    ],
)
def test_exchanged_electrodes(electrodes: str, lead: str | None) -> None:
    ecg_mv = heart()
    ecg_mv[1] *= 1.25
    ecg_mv = exchanged(derive_limb_leads(ecg_mv[[0, 1, *range(6, 12)]], INDEPENDENT), electrodes)
    findings = [finding for finding in assess(ecg_mv, spec.LEADS, 500, QUALITY) if finding.code == "swapped_limb_leads"]
    assert [finding.lead for finding in findings] == ([lead] if lead else [])
    assert not lead or f"The electrodes of {electrodes} seem exchanged" in findings[0].detail
    eight = [spec.LEADS.index(lead) for lead in INDEPENDENT]
    assert [lead for code, lead in found(ecg_mv[eight], leads=INDEPENDENT) if code == "swapped_limb_leads"] == (
        [lead] if lead else []
    )


def test_no_exchange_is_told_without_p_waves_or_with_a_negative_one_in_v6() -> None:
    ecg_mv = exchanged(heart(), "right and left arm")
    assert ("swapped_limb_leads", "I") in found(ecg_mv)
    assert ("swapped_limb_leads", "I") not in found(ecg_mv, replace(QUALITY, swap_p_wave_mv=0.2))
    assert ("swapped_limb_leads", "I") not in found(ecg_mv, replace(QUALITY, swap_correlation=1.0))
    ecg_mv[11, 100:230] -= 0.2 * np.hanning(130)
    for beat in range(1, 10):
        ecg_mv[11, 500 * beat + 100 : 500 * beat + 230] -= 0.2 * np.hanning(130)
    assert ("swapped_limb_leads", "I") not in found(ecg_mv)


@given(scale=st.floats(0.3, 3.0), seed=st.integers(0, 100))
@settings(max_examples=20)
def test_thresholds_in_millivolts_follow_the_signal(scale: float, seed: int) -> None:
    """A recording twice as large, against thresholds twice as large, has the same findings."""
    rng = np.random.default_rng(seed)
    ecg_mv = heart() + np.cumsum(rng.normal(scale=0.02, size=(12, 5000)), axis=1)
    in_mv = {item.name: scale * getattr(QUALITY, item.name) for item in fields(Quality) if item.name.endswith("_mv")}
    assert set(found(ecg_mv * scale, replace(QUALITY, **in_mv))) == set(found(ecg_mv))


@given(
    rate_hz=st.sampled_from([0.5, 7.0, 99.0, 257.0, 500.0, 1e4, 1e9]),
    samples=st.integers(1, 700),
    scale=st.sampled_from([0.0, 1e-300, 1e-3, 1.0, 1e300, np.inf, np.nan]),
    seed=st.integers(0, 100),
    rows=st.sets(st.sampled_from(range(12))),
)
def test_anything_can_be_assessed(rate_hz: float, samples: int, scale: float, seed: int, rows: set[int]) -> None:
    with np.errstate(all="ignore"):
        ecg_mv = np.random.default_rng(seed).normal(size=(len(rows), samples)) * scale
    for finding in assess(ecg_mv, tuple(spec.LEADS[row] for row in sorted(rows)), rate_hz, QUALITY):
        assert finding.code in FINDINGS
        assert np.isfinite(finding.value)
        assert finding.lead is None or finding.lead in spec.LEADS
        assert finding.detail.endswith((".", "?"))


def test_the_ten_seconds_that_are_taken() -> None:
    ecg_mv = np.concatenate([heart(), heart(), heart()], axis=1)
    ecg_mv[6, 5000:10_000] = np.nan
    recording = Recording("a", spec.LEADS, 500, ecg_mv, "test")
    assert assess_recording(recording, QUALITY) == ()
    assert [finding.lead for finding in assess_recording(recording, QUALITY, "middle")] == ["V1"]


def test_only_what_the_settings_name_is_rejected() -> None:
    findings = (
        Finding("baseline_wander", "V5", 1.2, "The baseline moves by 1.20 mV."),
        Finding("swapped_limb_leads", "I", -0.8, "Exchanged."),
    )
    reject("a", findings, QUALITY)
    reject("a", findings, Quality(reject=("mains_hum", "clipping")))
    with pytest.raises(
        RecordingError, match=r"^a: Expected none of --quality_reject\. Received swapped_limb"
    ) as caught:
        reject("a", findings, Quality(reject=("swapped_limb_leads",)))
    assert caught.value.code == "quality"


def test_settings_are_checked() -> None:
    assert replace(QUALITY, reject=tuple(FINDINGS)).reject == tuple(FINDINGS)
    with pytest.raises(ConfigError, match=r"--quality_reject .*too_short"):
        Quality(reject=("noise",))
    with pytest.raises(ConfigError, match="--quality_largest_mv to be above --quality_smallest_mv"):
        Quality(largest_mv=0.05)
    with pytest.raises(ConfigError, match="--quality_flat_s"):
        Quality(flat_s=0.0)


def test_real_recordings(shared: Path) -> None:
    """All 357: zeroed leads as their table counts them, and of everything else no more than stands there to be seen."""
    counts: Counter[str] = Counter()
    swaps: Counter[str] = Counter()
    with open(shared / "data" / "records.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    for number, row in enumerate(rows):
        recording = open_recording(shared / "data" / row["path"])
        findings = assess_recording(recording, QUALITY)
        assert sum(finding.code == "missing_lead" for finding in findings) == int(row["flat_leads"])
        counts.update({finding.code for finding in findings})
        if number % 3:
            continue
        leads = dict(zip(recording.leads, recording.ecg_mv[:, : round(10 * recording.sampling_rate_hz)], strict=True))
        twelve = np.stack([leads[lead] for lead in leads if lead.lower() in {name.lower() for name in spec.LEADS}])
        for electrodes in ("right and left arm", "right arm and left leg"):
            swapped = assess(exchanged(twelve, electrodes), spec.LEADS, recording.sampling_rate_hz, QUALITY)
            swaps[electrodes] += any(f"of {electrodes} seem" in finding.detail for finding in swapped)
    assert len(rows) == 357
    # None of them has its electrodes exchanged. Exchanged on purpose, more than half are found.
    assert dict(counts) == {
        "missing_lead": 6,
        "flat_lead": 1,
        "amplitude": 8,
        "clipping": 2,
        "mains_hum": 11,
        "baseline_wander": 60,
    }
    assert swaps["right and left arm"] > 0.6 * 119
    assert swaps["right arm and left leg"] > 0.5 * 119
