import base64
import re
import struct
from pathlib import Path

import numpy as np
import pytest
import sierraecg
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from keras_ecg_mae import spec
from keras_ecg_mae.recordings.conform import conform
from keras_ecg_mae.recordings.formats.philips import is_philips_xml
from keras_ecg_mae.recordings.open import open_recording
from keras_ecg_mae.recordings.source import Source
from tests.recordings.conftest import refusal, written

REAL = ("1_03_129DYPRG.XML", "1_04_3191723_ZZDEMOPTONLY_1-04_orig.xml")
SAMPLES = 100


def twelve_leads(samples: int, seed: int = 0, largest: int = 900) -> np.ndarray:
    """Stored samples, `(12, samples)`. The derived leads are what their derivation gives, or one unit beside it."""
    rng = np.random.default_rng(seed)
    digital = np.cumsum(rng.integers(-5, 6, (12, samples)), axis=1) + rng.integers(-largest, largest + 1, (12, 1))
    one, two = digital[:2]
    three = two - one
    exact = [three, -((one + two) // 2), (one - three) // 2, (two + three) // 2]
    digital[2:6] = exact + rng.integers(-1, 2, (4, samples))
    return digital


DIGITAL = twelve_leads(SAMPLES)


def lzw(content: bytes) -> bytes:
    """Codes of ten bits, as Philips packs them: a table of 1022 strings that is never begun anew."""
    table = {bytes([byte]): byte for byte in range(256)}
    codes, string = [], b""
    for place in range(len(content)):
        longer = string + content[place : place + 1]
        if longer in table:
            string = longer
            continue
        codes.append(table[string])
        if len(table) < 1023:
            table[longer] = len(table)
        string = longer[-1:]
    codes.append(table[string])
    bits = "".join(f"{code:010b}" for code in codes)
    bits += "0" * (-len(bits) % 8)
    return int(bits, 2).to_bytes(len(bits) // 8, "big")


def packed(row: np.ndarray) -> bytes:
    """A lead by XLI: its second differences, high bytes before low ones, by LZW, behind a header."""
    second = 2 * row[1:-1] - row[:-2] - row[2:]
    words = np.concatenate([row[:2], second[1:] + 64, [0]])[: row.size]
    planes = words.astype(">i2").tobytes()
    content = lzw(planes[::2] + planes[1::2])
    return struct.pack("<ihh", len(content), 1, second[0] if row.size > 2 else 0) + content


def xli(digital: np.ndarray) -> str:
    one, two, three, right, left, foot = digital[:6]
    rest = [two - one - three, -right - (one + two) // 2, (one - three) // 2 - left, (two + three) // 2 - foot]
    rows = [one, two, *rest, *digital[6:], *np.zeros((4, one.size), int)]  # twelve leads and four spare channels
    return base64.encodebytes(b"".join(packed(row) for row in rows)).decode()


def document(waveform: str, **changes: str) -> str:
    """Version 1.04, with attributes of its parsedwaveforms changed."""
    attributes = {
        "dataencoding": "Base64",
        "compression": "XLI",
        "numberofleads": "12",
        "leadlabels": " ".join(spec.LEADS),
        "durationperchannel": str(2 * SAMPLES),
        "samplespersecond": "500",
        "resolution": "5",
        "signaloffset": "0",
        "signalsigned": "True",
        "bitspersample": "16",
    } | changes
    listed = " ".join(f'{name}="{value}"' for name, value in attributes.items())
    return f"""<?xml version="1.0" encoding="utf-8"?><restingecgdata xmlns="http://www3.medical.philips.com">
      <documentinfo><documenttype>PhilipsECG</documenttype><documentversion>1.04</documentversion></documentinfo>
      <patient><generalpatientdata><patientid>12345678</patientid><name><lastname>Doe</lastname></name>
      </generalpatientdata></patient><dataacquisition><signalcharacteristics><samplingrate>500</samplingrate>
      <resolution>5</resolution><acquisitiontype>10-WIRE</acquisitiontype><bitspersample>16</bitspersample>
      <signaloffset>0</signaloffset><signalsigned>True</signalsigned>
      <numberchannelsallocated>12</numberchannelsallocated></signalcharacteristics></dataacquisition>
      <waveforms><parsedwaveforms {listed}>{waveform}</parsedwaveforms></waveforms></restingecgdata>"""


def old_document(waveform: str, attributes: str = 'compressflag="True" compressmethod="XLI"') -> str:
    """Version 1.03, which has no labels."""
    listed = f'{attributes} dataencoding="Base64" durationperchannel="{2 * SAMPLES}" nbitspersample="16"'
    text = re.sub("<parsedwaveforms.*?>", f"<parsedwaveforms {listed}>", document(waveform), flags=re.DOTALL)
    text = text.replace("1.04<", "1.03<").replace("PhilipsECG<", "SierraECG<").replace("10-WIRE", "STD-12")
    return re.sub("resolution>", "signalresolution>", text)


DOCUMENT = document(xli(DIGITAL))
PLAIN = document(" ".join(map(str, DIGITAL.ravel())), dataencoding="Plain")


def stored(spare: int = 0) -> str:
    """The leads as they are, and so many channels behind them."""
    return base64.encodebytes(np.pad(DIGITAL, ((0, spare), (0, 0))).astype("<i2").tobytes()).decode()


STORED = stored()


@pytest.mark.parametrize("name", REAL)
def test_real_files_against_sierraecg(shared: Path, name: str) -> None:
    path = shared / "data" / "formats" / "philips_xml" / name
    recording = open_recording(path)
    assert recording.format == "philips_xml"
    assert recording.leads == spec.LEADS
    assert recording.sampling_rate_hz == 500
    leads = sierraecg.read_file(str(path)).leads
    assert recording.leads == tuple(lead.label for lead in leads)
    np.testing.assert_allclose(recording.ecg_mv, np.stack([lead.samples for lead in leads]) * 5e-3, rtol=1e-12)


@pytest.mark.parametrize(
    ("name", "first", "two_mv"), [(REAL[0], [48, 44, 40, 34], 1.09), (REAL[1], [33, 33, 30, 30], 2.32)]
)
def test_real_files_by_eye(shared: Path, name: str, first: list[int], two_mv: float) -> None:
    recording = open_recording(shared / "data" / "formats" / "philips_xml" / name)
    assert recording.ecg_mv.shape == (12, 5500)
    np.testing.assert_allclose(recording.ecg_mv[0, :4], np.array(first) * 5e-3, rtol=1e-12)
    # The pulse of 1 mV that ends every lead is where the unit is proved; before it, it is an ECG.
    np.testing.assert_allclose(recording.ecg_mv[:, 5350:5450], 1, rtol=1e-12)
    ecg_mv = conform(recording)
    assert np.abs(ecg_mv[1] - ecg_mv[0] - ecg_mv[2]).max() <= 0.0101
    assert np.abs(ecg_mv[3] + (ecg_mv[0] + ecg_mv[1]) / 2).max() <= 0.0076
    np.testing.assert_allclose(np.ptp(ecg_mv[1]), two_mv, atol=0.01)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_what_xli_packs(tmp_path: Path, encoding: str) -> None:
    path = written(tmp_path, DOCUMENT.replace("utf-8", encoding).encode(encoding))
    assert is_philips_xml(Source(str(path)))
    recording = open_recording(path)
    assert recording.path == path
    assert recording.leads == spec.LEADS
    assert recording.sampling_rate_hz == 500
    np.testing.assert_allclose(recording.ecg_mv, DIGITAL * 5e-3, rtol=1e-12)
    leads = sierraecg.read_file(path).leads  # so that the packing above is Philips'
    np.testing.assert_array_equal([lead.samples for lead in leads], DIGITAL)


@pytest.mark.parametrize(
    "text",
    [
        PLAIN,
        document(STORED, compression="Uncompressed"),
        document(STORED).replace('compression="XLI"', ""),
        old_document(xli(DIGITAL)),
        old_document(STORED, 'compressflag="False" compressmethod="XLI"'),
        document(STORED, compression="none", dataencoding="base64"),
        document(",\n".join(map(str, DIGITAL.ravel())), dataencoding="Plain"),
        # Twelve leads and spare channels, as in what XLI packs.
        document(stored(spare=4), compression="Uncompressed"),
        DOCUMENT.replace("1.04<", "1.04.02<"),
        document(xli(DIGITAL), leadlabels=" ".join(spec.LEADS) + " V3R V4R V7 V8"),  # twelve of sixteen labels
    ],
)
def test_other_ways_to_store_the_same(tmp_path: Path, text: str) -> None:
    recording = open_recording(written(tmp_path, text))
    assert recording.leads == spec.LEADS
    np.testing.assert_allclose(recording.ecg_mv, DIGITAL * 5e-3, rtol=1e-12)


def test_other_leads_rates_and_resolutions(tmp_path: Path) -> None:
    text = document(STORED, compression="Uncompressed", leadlabels="V1 V2 V3 V4 V5 V6 V7 V8 V9 V3R V4R V5R",
                    resolution="2.5", samplespersecond="1000", durationperchannel="100")  # fmt: skip
    text = text.replace("rate>500", "rate>1000").replace("resolution>5", "resolution>2.5")
    recording = open_recording(written(tmp_path, text))
    assert recording.leads[9:] == ("V3R", "V4R", "V5R")
    assert recording.sampling_rate_hz == 1000
    np.testing.assert_allclose(recording.ecg_mv, DIGITAL * 2.5e-3, rtol=1e-12)


@pytest.mark.parametrize(
    ("text", "code"),
    [
        (DOCUMENT.replace("1.04<", "1.02<"), "unknown_format"),
        (re.sub("<dataacq.*</dataacquisition>", "", DOCUMENT, flags=re.DOTALL), "malformed"),
        *((DOCUMENT.replace("rate>500", f"rate>{rate}"), "sampling_rate") for rate in ("", "0", "250")),
        (document(xli(DIGITAL), samplespersecond="250"), "sampling_rate"),
        *((DOCUMENT.replace("resolution>5", f"resolution>{number}"), "unit") for number in ("", "0", "2.5")),
        (document(xli(DIGITAL), resolution="4.88"), "unit"),
        (document(xli(DIGITAL), bitspersample="12"), "unknown_format"),
        (document(xli(DIGITAL), signaloffset="2048"), "unknown_format"),
        (old_document(xli(DIGITAL)).replace('nbitspersample="16"', 'nbitspersample="12"'), "unknown_format"),
        (document(xli(DIGITAL), dataencoding="Hex"), "unknown_format"),
        (document(xli(DIGITAL), numberofleads="13"), "leads"),
        *((document(xli(DIGITAL), numberofleads=number), "leads") for number in ("0", "2.5")),
        (document(xli(DIGITAL), leadlabels="Doe 1980-01-01 III aVR aVL aVF V1 V2 V3 V4 V5 V6"), "leads"),
        (document(xli(DIGITAL), leadlabels="II I III aVR aVL aVF V1 V2 V3 V4 V5 V6"), "leads"),
        (document(xli(DIGITAL[:, ::-1]), leadlabels="I II", numberofleads="2"), "leads"),
        (old_document(xli(DIGITAL)).replace("STD-12", "EASI"), "leads"),
        (old_document(xli(DIGITAL)).replace("allocated>12", "allocated>8"), "leads"),
        *(
            (document(xli(DIGITAL), durationperchannel=span), "malformed")
            for span in ("", "0", "2", "200.1", "-200", "x")
        ),
        (document(xli(DIGITAL), durationperchannel="198"), "malformed"),
        (document(xli(DIGITAL)[: 77 * 5]), "truncated"),
        (document(STORED[:-2], compression="Uncompressed"), "malformed"),
        (document(STORED, compression="Uncompressed", durationperchannel="202"), "truncated"),
        (PLAIN.replace("</parsed", " 1</parsed"), "truncated"),
        (document(stored(spare=5), compression="Uncompressed"), "truncated"),
        # Half the duration makes twice the channels.
        (document(STORED, compression="Uncompressed", durationperchannel="100"), "truncated"),
        # What is neither three leads nor the remainder of one.
        (
            document(STORED, compression="Uncompressed", leadlabels="II I III aVR aVL aVF V1 V2 V3 V4 V5 V6"),
            "malformed",
        ),
    ],
)
def test_refusals(tmp_path: Path, text: str, code: str) -> None:
    error = refusal(written(tmp_path, text))
    assert error.code == code
    assert not re.search("Doe|Jane|1980|12345678", str(error))


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    resolution=st.floats(1e-3, 1e3),
    samples=st.integers(2, 300),
    largest=st.sampled_from([0, 20, 900, 7000]),
    seed=st.integers(0, 2**32 - 1),
    way=st.sampled_from(["XLI", "Base64", "Plain"]),
)
def test_round_trip(tmp_path: Path, resolution: float, samples: int, largest: int, seed: int, way: str) -> None:
    digital = twelve_leads(samples, seed, largest)
    waveform, changes = {
        "XLI": (xli(digital), {}),
        "Base64": (base64.b64encode(digital.astype("<i2").tobytes()).decode(), {"compression": "Uncompressed"}),
        "Plain": (" ".join(map(str, digital.ravel())), {"dataencoding": "Plain"}),
    }[way]
    text = document(waveform, durationperchannel=str(2 * samples), resolution=repr(resolution), **changes)
    recording = open_recording(written(tmp_path, text.replace("resolution>5", f"resolution>{resolution!r}")))
    np.testing.assert_allclose(recording.ecg_mv, digital * resolution * 1e-3, rtol=1e-12)
