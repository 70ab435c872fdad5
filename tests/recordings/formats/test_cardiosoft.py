import re
from pathlib import Path

import numpy as np
import pytest

from keras_ecg_mae import spec
from keras_ecg_mae.recordings.conform import conform
from keras_ecg_mae.recordings.formats.cardiosoft import is_cardiosoft_xml
from keras_ecg_mae.recordings.open import open_recording
from keras_ecg_mae.recordings.source import Source
from tests.recordings.conftest import refusal, written

SAMPLES = 100


def twelve_leads(samples: int, seed: int = 0) -> np.ndarray:
    """Digital samples, `(12, samples)`, of which II = I + III."""
    digital = np.random.default_rng(seed).integers(-900, 900, (12, samples))
    digital[1] = digital[0] + digital[2]
    return digital


DIGITAL = twelve_leads(SAMPLES)


def numbers(row: np.ndarray) -> str:
    """As CardioSoft writes them: some in a line, a comma after each but the last."""
    lines = [",".join(map(str, row[start : start + 30])) for start in range(0, row.size, 30)]
    return "\t\t\t" + ",\n\t\t\t".join(lines)


def scale(rate: str = "500", resolution: str = "5") -> str:
    return f'<SampleRate units="Hz">{rate}</SampleRate><Resolution units="uVperLsb">{resolution}</Resolution>'


def strip(digital: np.ndarray, leads: tuple[str, ...] = spec.LEADS, scale: str = scale()) -> str:
    rows = [
        f'<WaveformData lead="{lead}">{numbers(row)}</WaveformData>' for lead, row in zip(leads, digital, strict=True)
    ]
    return f"""<StripData><NumberOfLeads>{len(leads)}</NumberOfLeads>
      <ChannelSampleCountTotal>{digital.shape[1]}</ChannelSampleCountTotal>{scale}{"".join(rows)}
      <ArrhythmiaResults><Time units="ms">800</Time></ArrhythmiaResults></StripData>"""


def disclosure(values: np.ndarray, rate: str = "50", order: str = ",".join(spec.LEADS)) -> str:
    return f"""<FullDisclosure><NumberOfChannels>{order.count(",") + 1}</NumberOfChannels>{scale(rate)}
      <LeadOrder>{order}</LeadOrder><FullDisclosureData>{numbers(values)},
      <SampleCountTotal>{values.size}</SampleCountTotal></FullDisclosureData></FullDisclosure>"""


def document(*parts: str) -> str:
    return f"""<?xml version="1.0" encoding="ISO-8859-1" ?><CardiologyXML><ObservationType>RestECG</ObservationType>
      <PatientInfo><PID>12345678</PID><Name><FamilyName>Doe</FamilyName></Name></PatientInfo>
      <RestingECGMeasurements><MedianSamples><NumberOfLeads>12</NumberOfLeads>{scale("1000", "1")}
      <WaveformData lead="I">1,2,3</WaveformData></MedianSamples></RestingECGMeasurements>
      {"".join(parts)}</CardiologyXML>"""


STRIP = strip(DIGITAL)
DOCUMENT = document(STRIP)


def test_real_export_by_eye(shared: Path) -> None:
    path = shared / "data" / "formats" / "cardiosoft_xml" / "ecgprocess_example-XML1.xml"
    recording = open_recording(path)
    assert recording.format == "cardiosoft_xml"
    assert recording.leads == spec.LEADS
    assert recording.sampling_rate_hz == 500
    assert recording.ecg_mv.shape == (12, 5000)
    # The strip's lead I begins -4,-2,-2,-4,-6 and its lead II 22,23,23,20,18, 5 uV each.
    np.testing.assert_allclose(recording.ecg_mv[0, :5], np.array([-4, -2, -2, -4, -6]) * 5e-3, rtol=1e-12)
    np.testing.assert_allclose(recording.ecg_mv[1, :5], np.array([22, 23, 23, 20, 18]) * 5e-3, rtol=1e-12)
    assert np.abs(recording.ecg_mv[1] - recording.ecg_mv[0] - recording.ecg_mv[2]).max() < 1e-9
    np.testing.assert_allclose(np.ptp(recording.ecg_mv, axis=1)[[1, 9]], [1.475, 2.17])
    assert conform(recording).shape == (12, 5000)


def test_real_full_disclosure(shared: Path, tmp_path: Path) -> None:
    path = shared / "data" / "formats" / "cardiosoft_xml" / "ecgprocess_example-XML1.xml"
    text = re.sub("<StripData>.*</StripData>", "", path.read_text(encoding="latin-1"), flags=re.DOTALL)
    recording = open_recording(written(tmp_path, text.encode("latin-1")))
    assert recording.leads == spec.LEADS
    assert recording.ecg_mv.shape == (12, 8000)
    assert np.abs(recording.ecg_mv[1] - recording.ecg_mv[0] - recording.ecg_mv[2]).max() < 1e-9
    assert 1.3 < np.ptp(recording.ecg_mv[1]) < 1.4


def test_the_strip_is_read(tmp_path: Path) -> None:
    path = written(tmp_path, document(STRIP, disclosure(np.arange(1200))).encode("latin-1"))
    assert is_cardiosoft_xml(Source(str(path)))
    recording = open_recording(path)
    assert recording.path == path
    assert recording.leads == spec.LEADS
    assert recording.sampling_rate_hz == 500
    np.testing.assert_allclose(recording.ecg_mv, DIGITAL * 5e-3, rtol=1e-12)


@pytest.mark.parametrize("block", [1, 50])
def test_a_full_disclosure_is_read_in_the_order_that_einthoven_allows(tmp_path: Path, block: int) -> None:
    values = DIGITAL.reshape(12, -1, block).swapaxes(0, 1).ravel()
    recording = open_recording(written(tmp_path, document("<StripData/>", disclosure(values)).encode("latin-1")))
    assert recording.sampling_rate_hz == 50
    np.testing.assert_allclose(recording.ecg_mv, DIGITAL * 5e-3, rtol=1e-12)


@pytest.mark.parametrize("unit", ["uVperLSB", "\N{MICRO SIGN}VperLsb"])
def test_other_spellings_of_units(tmp_path: Path, unit: str) -> None:
    text = DOCUMENT.replace("uVperLsb", unit).replace('units="Hz"', 'units="HZ"')
    np.testing.assert_allclose(
        open_recording(written(tmp_path, text.encode("latin-1"))).ecg_mv, DIGITAL * 5e-3, rtol=1e-12
    )


def changed(pattern: str, replacement: str, text: str = DOCUMENT) -> str:
    before, begin, after = text.partition("<StripData>" if "<StripData>" in text else "<FullDisclosure>")
    after, changes = re.subn(pattern, replacement, after, count=1, flags=re.DOTALL)
    assert changes == 1
    return before + begin + after


INTERLEAVED = document(disclosure(DIGITAL.T.ravel()))


@pytest.mark.parametrize(
    ("text", "code"),
    [
        (document(), "malformed"),
        (document(STRIP, STRIP), "malformed"),
        (document(f"<StripData><Strip>{STRIP}</Strip></StripData>"), "malformed"),
        (changed('units="Hz">500', 'units="kHz">0.5'), "sampling_rate"),
        *((changed('units="Hz">500', f'units="Hz">{rate}'), "sampling_rate") for rate in ("", "0")),
        (changed("uVperLsb", "mVperLsb"), "unit"),
        *((changed('uVperLsb">5', f'uVperLsb">{resolution}'), "unit") for resolution in ("", "0", "4,88")),
        (changed("<NumberOfLeads>12", "<NumberOfLeads>8"), "leads"),
        (changed('lead="III"', 'lead="Doe, Jane"'), "leads"),
        (changed("<WaveformData.*</WaveformData>", ""), "leads"),
        (changed("<ChannelSampleCountTotal>100", "<ChannelSampleCountTotal>101"), "truncated"),
        (changed(">\t\t\t-?[0-9]+,", ">"), "truncated"),
        (changed("(?<=,)-?[0-9]+,", "Jane,"), "malformed"),
        (changed("<SampleCountTotal>1200", "<SampleCountTotal>1100", INTERLEAVED), "truncated"),
        (changed("<NumberOfChannels>12", "<NumberOfChannels>3", INTERLEAVED), "leads"),
        (changed("I,II,III", "I,2,3", INTERLEAVED), "leads"),
        (changed("I,II,III", "II,I,III", INTERLEAVED), "malformed"),
        (document(disclosure(np.zeros(1200, int))), "malformed"),  # fits either order
        (document(disclosure(DIGITAL.T.ravel()[:-1])), "malformed"),
        (document(disclosure(DIGITAL.T.ravel()), disclosure(DIGITAL.T.ravel())), "malformed"),
    ],
)
def test_refusals(tmp_path: Path, text: str, code: str) -> None:
    error = refusal(written(tmp_path, text.encode("latin-1")))
    assert error.code == code
    assert not re.search("Doe|Jane|12345678", str(error))
