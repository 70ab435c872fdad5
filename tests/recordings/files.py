"""A small file of each format, all of one ECG of a patient whose name, id and birth date are planted in them.

A format that is added to `recordings.open.FORMATS` needs a function here, by its key in `FILES`.
"""

import base64
import io
import struct
import zlib
from collections.abc import Callable

import edfio
import h5py
import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import UID, DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian, TwelveLeadECGWaveformStorage
from scipy.io import savemat

from keras_ecg_mae import spec
from keras_ecg_mae.config import Signal
from tests.recordings import mfer_writer, scp_writer

RATE_HZ, SAMPLES = 100, 300
# Whole multiples of 5 uV, which every format can store; the limb leads obey Einthoven and Goldberger.
_ONE, _TWO = 10 * np.random.default_rng(0).integers(-100, 100, (2, SAMPLES))
_LIMBS = [_ONE, _TWO, _TWO - _ONE, -(_ONE + _TWO) // 2, _ONE - _TWO // 2, _TWO - _ONE // 2]
ECG_UV = np.stack([*_LIMBS, *(5 * np.random.default_rng(1).integers(-200, 200, (6, SAMPLES)))]).astype(np.int64)
PLANTED = "Zyxomma^Quokka MRN-777311 1931-02-27"
TRACES = ("Zyxom", "Quokk", "MRN-7", "777311", "1931-")
# What such files may leave unsaid.
SAID = Signal(sampling_rate_hz=RATE_HZ, unit="uV", leads=spec.LEADS)
Files = dict[str, bytes]  # contents by name; the first is the one to open


def wfdb() -> Files:
    signals = "".join(f"ecg.dat 16 1000/mV 16 0 0 0 0 {lead}\n" for lead in spec.LEADS)
    header = f"ecg 12 {RATE_HZ} {SAMPLES}\n{signals}#{PLANTED}\n"
    return {"ecg.hea": header.encode(), "ecg.dat": ECG_UV.T.astype("<i2").tobytes()}


def _item(**elements: object) -> Dataset:
    dataset = Dataset()
    for keyword, value in elements.items():
        setattr(dataset, keyword, value)
    return dataset


def _code(value: str, scheme: str) -> Sequence:
    return Sequence([_item(CodeValue=value, CodingSchemeDesignator=scheme)])


def dicom(syntax: str = ExplicitVRLittleEndian, **changes: object) -> Files:
    channels = [
        _item(
            ChannelSourceSequence=_code(f"2:{number}", "MDC"),
            ChannelSensitivity="1",
            ChannelSensitivityUnitsSequence=_code("uV", "UCUM"),
            ChannelSensitivityCorrectionFactor="1",
            ChannelBaseline="0",
            WaveformBitsStored=16,
        )
        for number in (1, 2, 61, 62, 63, 64, 3, 4, 5, 6, 7, 8)
    ]
    elements: dict[str, object] = {
        "WaveformOriginality": "ORIGINAL",
        "NumberOfWaveformChannels": 12,
        "NumberOfWaveformSamples": SAMPLES,
        "SamplingFrequency": str(RATE_HZ),
        "ChannelDefinitionSequence": Sequence(channels),
        "WaveformBitsAllocated": 16,
        "WaveformSampleInterpretation": "SS",
        "WaveformData": ECG_UV.T.astype("<i2").tobytes(),
    }
    group = _item(**elements | changes)
    group["WaveformData"].VR = "OW"
    dataset = _item(
        SOPClassUID=TwelveLeadECGWaveformStorage,
        SOPInstanceUID="1.2.3",
        PatientName=PLANTED,
        WaveformSequence=Sequence([group]),
    )
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.MediaStorageSOPClassUID = TwelveLeadECGWaveformStorage
    dataset.file_meta.MediaStorageSOPInstanceUID = UID("1.2.3")
    dataset.file_meta.TransferSyntaxUID = UID(syntax)
    content = io.BytesIO()
    dataset.save_as(content, enforce_file_format=True)
    return {"ecg.dcm": content.getvalue()}


def edf() -> Files:
    signals = [
        edfio.EdfSignal.from_digital(
            row.astype(np.int16), RATE_HZ, label=lead, physical_dimension="uV", physical_range=(-32768, 32767)
        )
        for lead, row in zip(spec.LEADS, ECG_UV, strict=True)
    ]
    content = edfio.Edf(signals, data_record_duration=1).to_bytes()
    return {"ecg.edf": content[:8] + PLANTED.encode().ljust(80) + content[88:]}


def scp(samples: int = SAMPLES) -> Files:
    bodies = scp_writer.bodies(ECG_UV // 5, spec.LEADS, nanovolts=5000, interval_us=10_000)
    counted = bodies[3].replace(struct.pack("<II", 1, SAMPLES), struct.pack("<II", 1, samples))
    name = scp_writer.NAME + PLANTED.encode()
    patient = b"\0" + struct.pack("<H", len(name)) + name + b"\xff\0\0"
    return {"ecg.scp": scp_writer.record(bodies | {1: patient, 3: counted})}


def mfer(samples: int = SAMPLES) -> Files:
    patient = mfer_writer.tlv(0x81, PLANTED.encode())
    content = mfer_writer.mfer(
        ECG_UV, spec.LEADS, interval=(1, -3, 10), sensitivity=(0, -6, 1), sequences=False, further=patient
    )
    block = mfer_writer.tlv(0x04, SAMPLES.to_bytes(4, "little"))
    return {"ecg.mwf": content.replace(block, mfer_writer.tlv(0x04, samples.to_bytes(4, "little")))}


def _lead_data(lead: str, row: np.ndarray) -> str:
    content = row.astype("<i2").tobytes()
    return f"""<LeadData><LeadSampleCountTotal>{SAMPLES}</LeadSampleCountTotal><LeadID>{lead}</LeadID>
      <LeadAmplitudeUnitsPerBit>1</LeadAmplitudeUnitsPerBit><LeadAmplitudeUnits>MICROVOLTS</LeadAmplitudeUnits>
      <LeadDataCRC32>{zlib.crc32(content)}</LeadDataCRC32>
      <WaveFormData>{base64.encodebytes(content).decode()}</WaveFormData></LeadData>"""


def muse_xml() -> Files:
    leads = "".join(_lead_data(lead, row) for lead, row in zip(spec.LEADS, ECG_UV, strict=True))
    return {
        "ecg.xml": f"""<RestingECG><PatientLastName>{PLANTED}</PatientLastName><Waveform>
        <WaveformType>Rhythm</WaveformType><NumberofLeads>12</NumberofLeads><SampleBase>{RATE_HZ}</SampleBase>
        {leads}</Waveform></RestingECG>""".encode()
    }


def cardiosoft_xml() -> Files:
    leads = "".join(
        f'<WaveformData lead="{lead}">{",".join(map(str, row))}</WaveformData>'
        for lead, row in zip(spec.LEADS, ECG_UV, strict=True)
    )
    return {
        "ecg.xml": f"""<CardiologyXML><Name>{PLANTED}</Name><StripData><NumberOfLeads>12</NumberOfLeads>
        <SampleRate units="Hz">{RATE_HZ}</SampleRate><Resolution units="uVperLsb">1</Resolution>{leads}
        </StripData></CardiologyXML>""".encode()
    }


def hl7_aecg() -> Files:
    leads = "".join(
        f"""<component><sequence><code code="MDC_ECG_LEAD_{lead.upper()}"/><value><origin value="0" unit="uV"/>
        <scale value="1" unit="uV"/><digits>{" ".join(map(str, row))}</digits></value></sequence></component>"""
        for lead, row in zip(spec.LEADS, ECG_UV, strict=True)
    )
    return {
        "ecg.xml": f"""<AnnotatedECG xmlns="urn:hl7-org:v3"><name>{PLANTED}</name><component><series>
        <code code="RHYTHM"/><component><sequenceSet><component><sequence><code code="TIME_ABSOLUTE"/>
        <value><head value="20021122091000"/><increment value="{1 / RATE_HZ}" unit="s"/></value></sequence></component>
        {leads}</sequenceSet></component></series></component></AnnotatedECG>""".encode()
    }


def philips_xml() -> Files:
    return {
        "ecg.xml": f"""<restingecgdata><patient>{PLANTED}</patient><documentinfo><documenttype>SierraECG</documenttype>
        <documentversion>1.04</documentversion></documentinfo><dataacquisition><signalcharacteristics>
        <samplingrate>{RATE_HZ}</samplingrate><resolution>1</resolution></signalcharacteristics></dataacquisition>
        <waveforms><parsedwaveforms dataencoding="Plain" durationperchannel="{1000 * SAMPLES // RATE_HZ}"
        leadlabels="{" ".join(spec.LEADS)}" numberofleads="12">{" ".join(map(str, ECG_UV.reshape(-1)))}
        </parsedwaveforms></waveforms></restingecgdata>""".encode()
    }


def matlab(**changes: object) -> Files:
    content = io.BytesIO()
    said = {"fs": float(RATE_HZ), "unit": "uV", "leads": np.array(spec.LEADS, object), "patient": PLANTED}
    savemat(content, {"ecg": ECG_UV.astype(np.int16), **said} | changes, do_compression=bool(changes))
    return {"ecg.mat": content.getvalue()}


def hdf5(**changes: object) -> Files:
    content = io.BytesIO()
    with h5py.File(content, "w") as file:
        stored = file.create_dataset("ecg", **{"data": ECG_UV.astype(np.int16)} | changes)
        stored.attrs.update({"fs": RATE_HZ, "unit": "uV", "leads": list(spec.LEADS), "patient": PLANTED})
    return {"ecg.h5": content.getvalue()}


def npy() -> Files:
    content = io.BytesIO()
    np.save(content, ECG_UV.astype(np.int16))
    return {"ecg.npy": content.getvalue()}


def npz(samples: np.ndarray | None = None) -> Files:
    content = io.BytesIO()
    said = {"fs": np.array(RATE_HZ), "unit": np.array("uV", "S"), "leads": np.array(spec.LEADS, "S")}
    np.savez_compressed(
        content, ecg=ECG_UV.astype(np.int16) if samples is None else samples, patient=np.array(PLANTED, "S"), **said
    )
    return {"ecg.npz": content.getvalue()}


def csv() -> Files:
    header = ",".join(["time (s)", *(f"{lead} (uV)" for lead in spec.LEADS)])
    rows = "".join(f"{index / RATE_HZ},{','.join(map(str, row))}\n" for index, row in enumerate(ECG_UV.T))
    return {"ecg.csv": f"# {PLANTED}\n{header}\n{rows}".encode()}


FILES: dict[str, Callable[[], Files]] = {
    make.__name__: make
    for make in (
        *(wfdb, dicom, edf, scp, muse_xml, cardiosoft_xml, hl7_aecg, philips_xml),
        *(matlab, hdf5, npy, npz, mfer, csv),
    )
}

_ENTITIES = "".join(f'<!ENTITY {chr(98 + level)} "{f"&{chr(97 + level)};" * 10}">' for level in range(9))


def _with_entities(make: Callable[[], Files], declaration: str) -> Callable[[], bytes]:
    def bomb() -> bytes:
        text = next(iter(make().values())).decode()
        root = text[1:].split(">")[0].split()[0]
        return f"<!DOCTYPE {root} [{declaration}]>{text.replace(PLANTED, '&j;')}".encode()

    return bomb


def _first(files: Files) -> bytes:
    return next(iter(files.values()))


def _xml_bomb(head: str, inside: str) -> bytes:
    return f"{head}<RestingECG>{inside}</RestingECG>".encode()


# Files that would take all time or memory, or reach outside: each must be refused.
BOMBS: dict[str, Callable[[], bytes]] = {
    "muse_xml default attributes": lambda: _xml_bomb(
        f'<!DOCTYPE RestingECG [<!ATTLIST a b CDATA "{"x" * 100_000}">]>', "<a/>" * 100_000
    ),
    "muse_xml depth": lambda: _xml_bomb("", "<a>" * 1_000_000 + "</a>" * 1_000_000),
    "muse_xml namespaces": lambda: _xml_bomb("", f'<b xmlns:n="{"u" * 5_000_000}">{"<n:a/>" * 50_000}</b>'),
    **{
        f"{make.__name__} {name}": _with_entities(make, declaration)
        for make in (muse_xml, cardiosoft_xml, hl7_aecg, philips_xml)
        for name, declaration in (
            ("billion laughs", f'<!ENTITY a "lol">{_ENTITIES}'),
            ("quadratic", f'<!ENTITY j "{"x" * 100_000}">'),
            ("a file outside", '<!ENTITY j SYSTEM "file:///etc/passwd">'),
            ("an address", '<!ENTITY j SYSTEM "http://127.0.0.1:9/a">'),
        )
    },
    "dicom huge length": lambda: _first(dicom(NumberOfWaveformSamples=4_000_000_000)),
    "dicom inflated": lambda: _first(
        dicom(DeflatedExplicitVRLittleEndian, NumberOfWaveformSamples=1 << 26, WaveformData=bytes(12 << 27))
    ),
    "edf huge length": lambda: _first(edf())[:236] + b"99999999" + _first(edf())[244:],
    "edf huge records": lambda: _first(edf())[: 256 + 12 * 216] + b"99999999" * 12 + _first(edf())[256 + 12 * 224 :],
    "scp huge length": lambda: _first(scp(4_000_000_000)),
    "mfer huge length": lambda: _first(mfer(4_000_000_000)),
    "npy huge length": lambda: (
        b"\x93NUMPY\x01\x00v\x00"
        + b"{'descr': '<i2', 'fortran_order': False, 'shape': (12, 900000000000), }".ljust(117)
        + b"\n"
    ),
    "npz inflated": lambda: _first(npz(np.zeros((12, 1 << 26), np.int16))),
    "hdf5 inflated": lambda: _first(
        hdf5(data=None, shape=(12, 1 << 30), dtype="i2", chunks=(1, 1 << 20), compression="gzip", fillvalue=1)
    ),
    "matlab inflated": lambda: _first(matlab(ecg=np.zeros((12, 1 << 26), np.int16))),
}
