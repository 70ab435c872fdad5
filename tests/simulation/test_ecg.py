from dataclasses import replace

import numpy as np
import pytest
from scipy.signal import find_peaks, resample_poly
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from keras_ecg_mae.simulation.device import MAKES, Device, device_of
from keras_ecg_mae.simulation.ecg import simulate
from keras_ecg_mae.simulation.heart import DOWER, IS_P, IS_QRS, IS_T, KERNELS, rotation, twelve_leads
from keras_ecg_mae.simulation.patients import Patients, burden, draw_patients, visit
from keras_ecg_mae.spec import LEADS, SAMPLES

QUIET = Device(
    high_pass_hz=None,
    low_pass_hz=None,
    resolution_mv=0.001,
    gain_tolerance=0.0,
    mains_mv=0.0,
    wander_mv=0.0,
    noise_mv=0.0,
    muscle_mv=0.0,
)

V1, V3, V5, V6 = (LEADS.index(lead) for lead in ("V1", "V3", "V5", "V6"))


def hearts(count: int, lvef: float = 62.0, seed: int = 0) -> Patients:
    return draw_patients(np.full(count, lvef), np.full(count, 62.0), np.random.default_rng(seed))


def regular(patients: Patients) -> Patients:
    """The same hearts in sinus rhythm without extra beats."""
    return replace(
        patients,
        fibrillates=np.zeros(len(patients), bool),
        ectopy=np.zeros(len(patients)),
        rate_variability=np.full(len(patients), 0.02),
    )


def slope(ecg_mv: np.ndarray) -> np.ndarray:
    """Speed of the signal over all leads, smoothed over 30 ms: QRS stands out."""
    speed = np.sqrt((np.diff(ecg_mv, axis=1) ** 2).sum(axis=0))
    return np.convolve(speed, np.ones(15) / 15, "same")


def r_peaks(ecg_mv: np.ndarray) -> np.ndarray:
    """Samples of the QRS complexes of `(12, 5000)` at 500 Hz."""
    speed = slope(ecg_mv)
    return find_peaks(speed, height=0.4 * np.percentile(speed, 99), distance=150)[0]


def median_beat(ecg_mv: np.ndarray) -> np.ndarray:
    """`(12, 500)`: QRS in the middle at sample 200, baseline taken before P."""
    peaks = [peak for peak in r_peaks(ecg_mv) if 200 <= peak < SAMPLES - 300]
    beat = np.median([ecg_mv[:, peak - 200 : peak + 300] for peak in peaks], axis=0)
    return beat - beat[:, 130:140].mean(axis=1, keepdims=True)


def features(ecg_mv: np.ndarray) -> list[float]:
    """What a person would measure: rate, irregularity, QRS duration, R in the chest leads, T in I and V5 to V6."""
    intervals_s = np.diff(r_peaks(ecg_mv)) / 500
    beat = median_beat(ecg_mv)
    speed = slope(beat)[140:270]
    qrs_ms = 2.0 * float((speed > 0.15 * speed.max()).sum())
    t_wave = beat[:, 270:420]
    t_mv = np.take_along_axis(t_wave, np.abs(t_wave).argmax(axis=1)[:, None], axis=1)[:, 0]
    return [
        60 / float(np.mean(intervals_s)),
        float(np.std(intervals_s) / np.mean(intervals_s)),
        qrs_ms,
        *beat[V1:, 150:250].max(axis=1),
        *t_mv[[0, V5, V6]],
    ]


def test_output_is_float32_millivolts_in_the_devices_resolution() -> None:
    device = Device(resolution_mv=0.005)
    ecg_mv = simulate(hearts(8), device, 1)
    assert ecg_mv.shape == (8, 12, 5000)
    assert ecg_mv.dtype == np.float32
    np.testing.assert_allclose(ecg_mv / 0.005, np.rint(ecg_mv / 0.005), atol=1e-3)
    assert np.all(np.abs(ecg_mv) < 6)
    # The R of V5 in a healthy adult is 0.4 to 3.5 mV.
    assert np.all((ecg_mv[:, V5].max(axis=1) > 0.4) & (ecg_mv[:, V5].max(axis=1) < 4))


@pytest.mark.parametrize("rate_hz", [250, 500, 1000])
def test_recording_lasts_ten_seconds_at_the_devices_rate(rate_hz: int) -> None:
    assert simulate(hearts(2), Device(sampling_rate_hz=rate_hz), 1).shape == (2, 12, 10 * rate_hz)


def test_same_heart_at_another_rate_is_the_same_signal() -> None:
    slow = simulate(hearts(3), replace(QUIET, sampling_rate_hz=500), 1)
    fast = simulate(hearts(3), replace(QUIET, sampling_rate_hz=1000), 1)
    np.testing.assert_allclose(fast[:, :, ::2], slow, atol=0.002)


def test_same_seed_same_signal_and_another_seed_another() -> None:
    patients = hearts(3)
    np.testing.assert_array_equal(simulate(patients, Device(), 7), simulate(patients, Device(), 7))
    assert not np.allclose(simulate(patients, Device(), 7), simulate(patients, Device(), 8), atol=0.05)
    sequence = np.random.SeedSequence(7)
    np.testing.assert_array_equal(simulate(patients, Device(), sequence), simulate(patients, Device(), sequence))


def test_recording_does_not_depend_on_those_after_it() -> None:
    many, few = hearts(21), hearts(5)
    np.testing.assert_array_equal(many.qrs_stretch[:5], few.qrs_stretch)
    np.testing.assert_array_equal(simulate(many, Device(), 7)[:5], simulate(few, Device(), 7))


@pytest.mark.parametrize("device", [QUIET, Device()])
def test_einthoven_and_goldberger(device: Device) -> None:
    ecg_mv = dict(zip(LEADS, np.moveaxis(simulate(hearts(6), device, 3), 1, 0), strict=True))
    within_mv = 2 * device.resolution_mv
    np.testing.assert_allclose(ecg_mv["II"], ecg_mv["I"] + ecg_mv["III"], atol=within_mv)
    np.testing.assert_allclose(ecg_mv["aVR"], -(ecg_mv["I"] + ecg_mv["II"]) / 2, atol=within_mv)
    np.testing.assert_allclose(ecg_mv["aVL"], (ecg_mv["I"] - ecg_mv["III"]) / 2, atol=within_mv)
    np.testing.assert_allclose(ecg_mv["aVF"], (ecg_mv["II"] + ecg_mv["III"]) / 2, atol=within_mv)


def test_derived_leads_give_dowers_published_rows() -> None:
    derived = twelve_leads(DOWER[None])[0]
    # Rows of the published matrix that are not used in computing.
    np.testing.assert_allclose(derived[2], [-0.397, 1.301, -0.191], atol=1e-3)
    np.testing.assert_allclose(derived[3], [-0.434, -0.415, 0.037], atol=1e-3)
    np.testing.assert_allclose(derived[4], [0.515, -0.768, 0.125], atol=1e-3)
    np.testing.assert_allclose(derived[5], [-0.081, 1.184, -0.162], atol=1e-3)


@pytest.mark.parametrize("rate_bpm", [45, 70, 110, 145])
def test_heart_rate_asked_is_heart_rate_found(rate_bpm: float) -> None:
    patients = replace(regular(hearts(10)), heart_rate_bpm=np.full(10, float(rate_bpm)))
    for ecg_mv in simulate(patients, QUIET, 2):
        assert 60 / np.mean(np.diff(r_peaks(ecg_mv)) / 500) == pytest.approx(rate_bpm, rel=0.04)


def test_normal_heart_looks_like_one() -> None:
    """V1 is rS, V6 has R, aVR points down, P goes before QRS and T after it."""
    published = regular(hearts(1))
    turns = {name: np.eye(3)[None] for name in ("qrs_rotation", "t_rotation")}
    gains = {"qrs_gain": np.ones((1, 3)), "t_gain": np.ones((1, 3)), "septal_gain": np.ones(1), "p_gain": np.ones(1)}
    published = replace(
        published, **turns, **gains, lead_vectors=DOWER[None], terminal_gain=np.zeros(1), qrs_stretch=np.full(1, 1.2)
    )
    beat = dict(zip(LEADS, median_beat(simulate(published, QUIET, 0)[0]), strict=True))
    qrs = {lead: values[150:250] for lead, values in beat.items()}
    assert 0.1 < qrs["V1"].max() < -qrs["V1"].min()
    assert qrs["V1"].argmax() < qrs["V1"].argmin()
    assert qrs["V5"].max() > 1 > 3 * -qrs["V5"].min()
    assert qrs["V1"].max() < qrs["V3"].max() < qrs["V5"].max()
    assert -qrs["aVR"].min() > 3 * qrs["aVR"].max()
    assert beat["V5"][270:400].max() > 0.2
    assert beat["aVR"][270:400].min() < -0.1
    assert 0.02 < beat["II"][80:165].max() < 0.3


def test_qt_shortens_with_rate_and_qrs_does_not() -> None:
    def durations(rate_bpm: float) -> tuple[float, float]:
        patients = replace(regular(hearts(20)), heart_rate_bpm=np.full(20, rate_bpm))
        beats = [median_beat(ecg_mv) for ecg_mv in simulate(patients, QUIET, 2)]
        t_peak = np.median([np.abs(beat[V3, 270:400]).argmax() + 70 for beat in beats])
        qrs = np.median([(slope(beat)[140:250] > 0.2 * slope(beat)[140:250].max()).sum() for beat in beats])
        return float(t_peak), float(qrs)

    (slow_t, slow_qrs), (fast_t, fast_qrs) = durations(50.0), durations(90.0)
    assert fast_t / slow_t == pytest.approx(np.sqrt(50 / 90), abs=0.08)
    assert fast_qrs == pytest.approx(slow_qrs, abs=3)


def test_fibrillation_is_irregular_and_has_no_p_wave() -> None:
    sinus = regular(hearts(20))
    fibrillating = replace(sinus, fibrillates=np.ones(20, bool))

    def irregularity(patients: Patients) -> np.ndarray:
        intervals = [np.diff(r_peaks(ecg_mv)) for ecg_mv in simulate(patients, QUIET, 4)]
        return np.array([np.std(rr) / np.mean(rr) for rr in intervals])

    assert np.median(irregularity(sinus)) < 0.04 < 0.12 < np.median(irregularity(fibrillating))

    def p_mv(patients: Patients) -> float:
        beats = [median_beat(ecg_mv) for ecg_mv in simulate(patients, QUIET, 4)]
        return float(np.mean([beat[1, 80:165].max() - beat[1, 130:140].mean() for beat in beats]))

    assert p_mv(fibrillating) < 0.5 * p_mv(sinus)


def test_premature_beats_come_early_and_pause_follows() -> None:
    patients = replace(regular(hearts(20)), ectopy=np.full(20, 0.15))
    shortest, after = [], []
    for ecg_mv, rate in zip(simulate(patients, QUIET, 5), patients.heart_rate_bpm, strict=True):
        ratio = np.diff(r_peaks(ecg_mv)) / 500 * rate / 60
        early = np.nonzero(ratio[:-1] < 0.8)[0]
        shortest += list(ratio[early])
        after += list(ratio[early + 1])
    assert len(shortest) > 15
    assert np.median(shortest) < 0.75
    assert np.median(after) > 1.2


def test_burden_rises_smoothly_below_fifty() -> None:
    lvef = np.arange(15.0, 71.0)
    steps = -np.diff(burden(lvef))
    assert np.all(steps > 0)
    assert np.all(steps < 0.04)
    assert burden(np.array(60.0)) < 0.05
    assert burden(np.array(20.0)) == pytest.approx(1.0, abs=0.01)


def test_low_ejection_fraction_shows_in_the_signal() -> None:
    def measure(lvef: float) -> np.ndarray:
        return np.array([features(ecg_mv) for ecg_mv in simulate(hearts(40, lvef, seed=2), QUIET, 6)])

    normal, low = measure(62.0).mean(axis=0), measure(25.0).mean(axis=0)
    rate, qrs_ms, r_v2, r_v3, t_v6 = 0, 2, 4, 5, -1
    assert low[rate] > normal[rate] + 4
    assert low[qrs_ms] > normal[qrs_ms] + 8
    assert low[r_v2] < 0.8 * normal[r_v2]
    assert low[r_v3] < 0.8 * normal[r_v3]
    assert low[t_v6] < normal[t_v6] - 0.15


def test_visit_keeps_the_heart_and_changes_the_day() -> None:
    patients = hearts(200)
    other_day = visit(patients, np.random.default_rng(1))
    np.testing.assert_array_equal(other_day.qrs_stretch, patients.qrs_stretch)
    assert np.corrcoef(other_day.heart_rate_bpm, patients.heart_rate_bpm)[0, 1] > 0.8
    assert not np.allclose(other_day.lead_vectors, patients.lead_vectors)


def test_rotation_turns_the_axis_and_keeps_length() -> None:
    np.testing.assert_allclose(rotation(2, np.array([90.0]))[0] @ [1, 0, 0], [0, 1, 0], atol=1e-12)
    np.testing.assert_allclose(rotation(1, np.array([90.0]))[0] @ [1, 0, 0], [0, 0, 1], atol=1e-12)


def test_device_adds_its_mains_frequency() -> None:
    for mains_hz in (50.0, 60.0):
        device = replace(QUIET, mains_hz=mains_hz, mains_mv=0.05)
        hum = simulate(hearts(4), device, 1) - simulate(hearts(4), QUIET, 1)
        spectrum = np.abs(np.fft.rfft(hum, axis=-1)).mean(axis=(0, 1))
        assert spectrum.argmax() / 10 == mains_hz


def test_high_pass_removes_wander_and_low_pass_narrows_noise() -> None:
    wandering = replace(QUIET, wander_mv=0.3)
    still = replace(wandering, high_pass_hz=0.5)
    assert (
        simulate(hearts(6), still, 1)[:, 0].mean(axis=1).std()
        < simulate(hearts(6), wandering, 1)[:, 0].mean(axis=1).std()
    )
    noisy = replace(QUIET, noise_mv=0.05)
    muffled = replace(noisy, low_pass_hz=40.0)

    def fast_power(device: Device) -> float:
        return float((np.abs(np.fft.rfft(simulate(hearts(4), device, 1))[..., 1000:]) ** 2).mean())

    assert fast_power(muffled) < 0.2 * fast_power(noisy)


def test_institutions_differ() -> None:
    devices = [device_of(institution) for institution in range(2 * len(MAKES))]
    assert len(set(devices)) == len(devices)
    assert {device.sampling_rate_hz for device in devices} >= {250, 500, 1000}
    assert any(len(device.leads) == 8 for device in devices)


def test_every_kernel_has_one_wave() -> None:
    np.testing.assert_array_equal(IS_P.astype(int) + IS_QRS + IS_T, np.ones(KERNELS, int))


def test_simple_features_tell_low_ejection_fraction_at_another_institution() -> None:
    def cohort(institution: int, count: int) -> tuple[np.ndarray, np.ndarray]:
        rng = np.random.default_rng([11, institution])
        low = rng.uniform(size=count) < 0.4
        lvef = np.where(low, rng.uniform(18, 40, count), rng.normal(61, 5, count))
        device = device_of(institution)
        ecg_mv = simulate(draw_patients(lvef, rng.normal(62, 13, count), rng), device, institution)
        if device.sampling_rate_hz != 500:
            ecg_mv = resample_poly(ecg_mv, 500, device.sampling_rate_hz, axis=-1)
        return np.array([features(recording) for recording in ecg_mv]), low

    model = make_pipeline(StandardScaler(), LogisticRegression()).fit(*cohort(0, 130))
    measured, low = cohort(2, 80)
    auroc = roc_auc_score(low, model.predict_proba(measured)[:, 1])
    assert 0.75 < auroc < 0.98  # learnable, not trivial
