import json
import re
from pathlib import Path

import numpy as np
import pytest

from keras_ecg_mae import spec
from keras_ecg_mae.errors import RecordingError
from keras_ecg_mae.recordings.conform import conform
from keras_ecg_mae.recordings.formats.hl7_aecg import is_hl7_aecg
from keras_ecg_mae.recordings.leads_and_units import lead_name, lead_names
from keras_ecg_mae.recordings.open import open_recording
from keras_ecg_mae.recordings.source import Source
from tests.recordings.conftest import refusal, written

CODES = tuple(f"MDC_ECG_LEAD_{lead.upper()}" for lead in spec.LEADS)
DIGITAL = np.random.default_rng(0).integers(-2000, 2000, (12, 100))


def time(head: str = "20021122091000.000", increment: str = "0.002", unit: str = "s", relative: bool = False) -> str:
    kind, value = ("TIME_RELATIVE", "GLIST_PQ") if relative else ("TIME_ABSOLUTE", "GLIST_TS")
    return f"""<component><sequence><code code="{kind}" codeSystem="2.16.840.1.113883.5.4"/><value xsi:type="{value}">
      <head value="{head}"/><increment value="{increment}" unit="{unit}"/></value></sequence></component>"""


def lead(code: str, digital: np.ndarray, scale: str = "2.5", unit: str = "uV", origin: str = "0") -> str:
    return f"""<component><sequence><code code="{code}" codeSystem="2.16.840.1.113883.6.24"/>
      <value xsi:type="SLIST_PQ"><origin value="{origin}" unit="{unit}"/><scale value="{scale}" unit="{unit}"/>
      <digits>{" ".join(map(str, digital))}\n</digits></value></sequence></component>"""


def sequence_set(*sequences: str) -> str:
    return f"<component><sequenceSet>{''.join(sequences)}</sequenceSet></component>"


def series(*sets: str, code: str = "RHYTHM") -> str:
    beat = sequence_set(time("0", "1", "ms", relative=True), lead("MDC_ECG_LEAD_I", DIGITAL[0, :9]))
    return f"""<component><series><id extension="12345678"/><code code="{code}"/>{"".join(sets)}
      <derivation><derivedSeries><code code="REPRESENTATIVE_BEAT"/>{beat}</derivedSeries></derivation>
      </series></component>"""


def document(*series: str, prefix: str = "") -> str:
    name = "xmlns:" + prefix[:-1] if prefix else "xmlns"
    text = f"""<!-- Sample --><AnnotatedECG xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" type="Observation">
      <componentOf><subject><name>Doe</name></subject></componentOf>{"".join(series)}</AnnotatedECG>"""
    if prefix:
        text = re.sub("<(/?)([A-Za-z])", rf"<\1{prefix}\2", text)
    return text.replace("AnnotatedECG ", f'AnnotatedECG {name}="urn:hl7-org:v3" ', 1)


LEADS = [lead(code, row) for code, row in zip(CODES, DIGITAL, strict=True)]
DOCUMENT = document(series(sequence_set(time(), *LEADS)))


@pytest.mark.parametrize("name", ["ecgkit_ecg_hl7.xml", "fda_subject1_0.xml"])
def test_real_files_by_eye(shared: Path, name: str) -> None:
    recording = open_recording(shared / "data" / "formats" / "hl7_aecg" / name)
    assert recording.format == "hl7_aecg"
    assert recording.leads[:3] == ("MDC_ECG_LEAD_I", "MDC_ECG_LEAD_II", "MDC_ECG_LEAD_V1")
    assert {lead_name(lead) for lead in recording.leads} == set(spec.LEADS)
    assert recording.sampling_rate_hz == 500
    assert recording.ecg_mv.shape == (12, 5000)
    # Lead I begins -2 -2 -2 -2 -3 and lead V1 43 43 43, 2.5 uV each.
    np.testing.assert_allclose(recording.ecg_mv[0, :5], np.array([-2, -2, -2, -2, -3]) * 2.5e-3, rtol=1e-12)
    np.testing.assert_allclose(recording.ecg_mv[2, :3], 43 * 2.5e-3, rtol=1e-12)
    ecg_mv = conform(recording)
    assert np.abs(ecg_mv[1] - ecg_mv[0] - ecg_mv[2]).max() < 1e-6
    np.testing.assert_allclose(np.ptp(ecg_mv, axis=1)[:2], [0.72, 1.0025], rtol=1e-6)


def test_real_ecg_against_the_same_in_npz(shared: Path) -> None:
    recording = open_recording(shared / "data" / "formats" / "derived" / "ptbxl00618_aecg.xml")
    with np.load(shared / "data" / "formats" / "npz" / "lbbb.npz") as stored:
        expected_mv = stored["digital"] / stored["gain_per_mv"]
    assert tuple(lead_name(lead) for lead in recording.leads) == spec.LEADS
    assert recording.sampling_rate_hz == 500
    np.testing.assert_allclose(recording.ecg_mv, expected_mv, rtol=0, atol=0.0005)


def test_what_philips_converter_writes_is_refused_with_the_reason(shared: Path) -> None:
    path = shared / "data" / "formats" / "philips_xml" / "1_04_ad4d3d80-d165_1-04_converted.xml"
    with pytest.raises(
        RecordingError, match=r"calibration pulse.* I, II and III .* 0\.200 s from 10\.700 s on"
    ) as caught:
        open_recording(path)
    assert caught.value.code == "malformed"


def with_pulse(seconds: float, millivolts: float, third: bool = True) -> str:
    ecg = np.random.default_rng(1).integers(-20, 20, (12, 600))
    ecg[:, 300 : 300 + int(seconds * 500)] = millivolts * 1e3
    if not third:
        ecg[2] = 0
    return document(series(sequence_set(time(), *(lead(code, row, "1") for code, row in zip(CODES, ecg, strict=True)))))


def test_a_calibration_pulse_is_one_of_a_millivolt_in_all_limb_leads(tmp_path: Path) -> None:
    for seconds in (0.1, 0.2, 0.4):
        with pytest.raises(RecordingError, match=f"for {seconds:.3f} s from 0.600 s"):
            open_recording(written(tmp_path, with_pulse(seconds, 1)))
    for text in (with_pulse(0.02, 1), with_pulse(0.2, 0), with_pulse(0.2, 0.5), with_pulse(0.2, 1, third=False)):
        assert open_recording(written(tmp_path, text)).ecg_mv.shape == (12, 600)


@pytest.mark.parametrize("prefix", ["", "hl7:"])
def test_the_rhythm_is_read_and_derived_series_are_not(tmp_path: Path, prefix: str) -> None:
    path = written(tmp_path, document(series(sequence_set(time(), *LEADS)), prefix=prefix))
    assert is_hl7_aecg(Source(str(path)))
    recording = open_recording(path)
    assert recording.path == path
    assert recording.leads == CODES
    assert recording.sampling_rate_hz == 500
    np.testing.assert_allclose(recording.ecg_mv, DIGITAL * 2.5e-3, rtol=1e-12)


@pytest.mark.parametrize(
    ("increment", "unit", "rate_hz"),
    [
        ("0.002", "s", 500),
        ("2", "ms", 500),
        ("4.0", "ms", 250),
        ("3906.25", "\N{MICRO SIGN}s", 256),
        ("0.002", "sec", 500),
    ],
)
@pytest.mark.parametrize("relative", [False, True])
def test_rates(tmp_path: Path, increment: str, unit: str, rate_hz: float, relative: bool) -> None:
    text = document(series(sequence_set(time("0", increment, unit, relative), *LEADS)))
    assert open_recording(written(tmp_path, text)).sampling_rate_hz == rate_hz


@pytest.mark.parametrize(
    ("scale", "unit", "origin", "unit_mv", "origin_mv"),
    [
        ("5", "\N{MICRO SIGN}V", "0", 5e-3, 0),
        ("0.005", "mv", "0", 5e-3, 0),
        ("0.005", "mV", "-1.5", 5e-3, -1.5),
        ("0.000005", "V", "0.001", 5e-3, 1),
        ("4880", "nV", "100000", 4.88e-3, 0.1),
    ],
)
def test_units_and_origins(
    tmp_path: Path, scale: str, unit: str, origin: str, unit_mv: float, origin_mv: float
) -> None:
    rows = [lead(code, row, scale, unit, origin) for code, row in zip(CODES, DIGITAL, strict=True)]
    recording = open_recording(written(tmp_path, document(series(sequence_set(time(), *rows)))))
    np.testing.assert_allclose(recording.ecg_mv, DIGITAL * unit_mv + origin_mv, atol=1e-12)


def test_origin_and_scale_have_their_own_units(tmp_path: Path) -> None:
    text = DOCUMENT.replace('origin value="0" unit="uV"', 'origin value="1" unit="mV"')
    np.testing.assert_allclose(open_recording(written(tmp_path, text)).ecg_mv, DIGITAL * 2.5e-3 + 1, rtol=1e-12)
    text = DOCUMENT.replace('origin value="0" unit="uV"', 'origin value="0"')
    np.testing.assert_allclose(open_recording(written(tmp_path, text)).ecg_mv, DIGITAL * 2.5e-3, rtol=1e-12)


def listed(digits: str, scale: str = "2", unit: str = "ms") -> str:
    """Times one after the other, in place of a head and an increment."""
    value = f'''<value xsi:type="SLIST_PQ"><origin value="0" unit="{unit}"/><scale value="{scale}" unit="{unit}"/>
      <digits>{digits}</digits></value>'''
    return re.sub("<value.*?</value>", value, time(relative=True), flags=re.DOTALL)


def counted(samples: int, step: float = 1) -> str:
    return " ".join(f"{place * step:.12g}" for place in range(samples))


@pytest.mark.parametrize(
    ("times", "rate_hz"),
    [
        (listed(counted(100)), 500),
        (listed(counted(100, 0.002), "1", "s"), 500),
        (listed(counted(101)[2:], "0.004", "sec"), 250),
    ],
)
def test_listed_times(tmp_path: Path, times: str, rate_hz: float) -> None:
    recording = open_recording(written(tmp_path, document(series(sequence_set(times, *LEADS)))))
    assert recording.sampling_rate_hz == rate_hz
    np.testing.assert_allclose(recording.ecg_mv, DIGITAL * 2.5e-3, rtol=1e-12)


@pytest.mark.parametrize(
    ("digits", "code"),
    [
        (counted(101), "malformed"),
        (counted(50) + " " + counted(50), "sampling_rate"),
        (counted(101).replace(" 50 ", " "), "sampling_rate"),  # a sample is missing
        (" ".join("0" * 100), "sampling_rate"),
        (counted(100) + " Jane", "malformed"),
        ("", "sampling_rate"),
    ],
)
def test_listed_times_that_are_none(tmp_path: Path, digits: str, code: str) -> None:
    error = refusal(written(tmp_path, document(series(sequence_set(listed(digits), *LEADS)))))
    assert error.code == code
    assert "Jane" not in str(error)


def test_a_lead_whose_value_is_null_was_not_recorded(tmp_path: Path) -> None:
    text = changed("(LEAD_III.*?)<value.*?</value>", r'\1<value xsi:type="SLIST_PQ" nullFlavor="NA"/>')
    recording = open_recording(written(tmp_path, text))
    assert recording.leads == (*CODES[:2], *CODES[3:])
    np.testing.assert_allclose(recording.ecg_mv, np.delete(DIGITAL, 2, axis=0) * 2.5e-3, rtol=1e-12)


def test_sets_of_the_same_times_are_one_recording(tmp_path: Path) -> None:
    text = document(series(sequence_set(time(), *LEADS[:6]), sequence_set(time(), *LEADS[6:])))
    recording = open_recording(written(tmp_path, text))
    assert recording.leads == CODES
    np.testing.assert_allclose(recording.ecg_mv, DIGITAL * 2.5e-3, rtol=1e-12)


def changed(pattern: str, replacement: str) -> str:
    text, changes = re.subn(pattern, replacement, DOCUMENT, count=1, flags=re.DOTALL)
    assert changes == 1
    return text


@pytest.mark.parametrize(
    ("text", "code"),
    [
        (document(), "malformed"),
        (document(series(sequence_set(time(), *LEADS)), series(sequence_set(time(), *LEADS))), "missing"),
        (document(series()), "malformed"),
        (document(series(sequence_set(time()))), "leads"),
        # Three leads at a time for a quarter of the recording; the same leads twice; other lengths; other rates.
        (document(series(*(sequence_set(time(str(row)), *LEADS[row : row + 3]) for row in (0, 3, 6, 9)))), "malformed"),
        (document(series(sequence_set(time(), *LEADS), sequence_set(time(), *LEADS))), "leads"),
        (document(series(sequence_set(time(), *LEADS[:11], lead(CODES[11], DIGITAL[0, 1:])))), "malformed"),
        (
            document(series(sequence_set(time(), *LEADS[:6]), sequence_set(time(increment="0.004"), *LEADS[6:]))),
            "malformed",
        ),
        (document(series(sequence_set(*LEADS))), "sampling_rate"),
        (document(series(sequence_set(time(), time(), *LEADS))), "sampling_rate"),
        *((document(series(sequence_set(time(increment=step), *LEADS))), "sampling_rate") for step in ("", "0")),
        *((document(series(sequence_set(time(unit=unit), *LEADS))), "sampling_rate") for unit in ("", "min")),
        (changed("<increment[^>]*>", ""), "sampling_rate"),
        *((changed('scale value="2.5" unit="uV"', f'scale value="2.5" unit="{unit}"'), "unit") for unit in ("", "MV")),
        *((changed('scale value="2.5"', f'scale value="{scale}"'), "unit") for scale in ("", "0")),
        (changed("<scale[^>]*>", ""), "unit"),
        (changed('origin value="0" unit="uV"', 'origin value="1"'), "unit"),
        (changed("<digits>-?[0-9]+ ", "<digits>"), "malformed"),
        (changed("MDC_ECG_LEAD_AVL", "MDC_ECG_LEAD_Doe, Jane"), "leads"),
    ],
)
def test_refusals(tmp_path: Path, text: str, code: str) -> None:
    error = refusal(written(tmp_path, text))
    assert error.code == code
    assert not re.search("Doe|Jane|12345678", str(error))


def test_an_absurd_unit_gives_infinity_without_a_warning(tmp_path: Path) -> None:
    text = document(series(sequence_set(time(), lead("MDC_ECG_LEAD_I", DIGITAL[0], "1e306", "mV"))))
    assert np.isinf(open_recording(written(tmp_path, text)).ecg_mv).any()


def test_megacare(shared: Path) -> None:
    case = shared / "cases" / "W09"
    spans = json.loads((case / "expected.json").read_text())["expected"]["megacare.xml"]["peak_to_peak_mv"]
    recording = open_recording(case / "megacare.xml")
    assert recording.sampling_rate_hz == 100
    for lead, row in zip(lead_names(recording.leads), recording.ecg_mv, strict=True):
        assert np.ptp(row) == pytest.approx(spans[lead], abs=0.006)


def test_several_ecgs_in_a_file(tmp_path: Path) -> None:
    sets = [sequence_set(time(), *(lead(code, DIGITAL[0] + shift) for code in CODES)) for shift in (0, 1)]
    second = series(sets[1]).replace("12345678", "second")
    path = written(tmp_path, document(series(sets[0]), second))
    assert refusal(path).code == "missing"
    assert refusal(f"{path}#2").code == "missing"
    first = open_recording(f"{path}#0").ecg_mv
    for name in ("1", "second"):
        np.testing.assert_allclose(open_recording(f"{path}#{name}").ecg_mv - first, 0.0025, atol=1e-12)
