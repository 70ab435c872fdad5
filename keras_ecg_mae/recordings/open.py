"""One door to every format: one table of formats, and the file's first bytes are read once."""

import os
import warnings
from collections.abc import Callable
from dataclasses import dataclass

from keras_ecg_mae.config import Signal
from keras_ecg_mae.errors import RecordingError
from keras_ecg_mae.recordings.formats.cardiosoft import is_cardiosoft_xml, read_cardiosoft_xml
from keras_ecg_mae.recordings.formats.csv import is_csv, read_csv
from keras_ecg_mae.recordings.formats.dicom import is_dicom, read_dicom
from keras_ecg_mae.recordings.formats.edf import is_edf, read_edf
from keras_ecg_mae.recordings.formats.hdf5 import is_hdf5, read_hdf5
from keras_ecg_mae.recordings.formats.hl7_aecg import is_hl7_aecg, read_hl7_aecg
from keras_ecg_mae.recordings.formats.matlab import is_matlab, read_matlab
from keras_ecg_mae.recordings.formats.mfer import is_mfer, read_mfer
from keras_ecg_mae.recordings.formats.muse import is_muse_xml, read_muse_xml
from keras_ecg_mae.recordings.formats.numpy import is_npy, is_npz, read_npy, read_npz
from keras_ecg_mae.recordings.formats.philips import is_philips_xml, read_philips_xml
from keras_ecg_mae.recordings.formats.scp import is_scp, read_scp
from keras_ecg_mae.recordings.formats.wfdb import is_wfdb, read_wfdb
from keras_ecg_mae.recordings.recording import Recording
from keras_ecg_mae.recordings.source import Source


@dataclass(frozen=True)
class Format:
    """A line of the table of formats.

    Attributes:
        key: as `Recording.format` has it.
        name: as messages have it.
        recognizes: whether the source is of this format, told by its first bytes (`Source.head`, `Source.root`).
        read: decodes it.
        describes_itself: whether the file always states unit, rate and leads, so that no sidecar is read.
        holds_many: whether `FILE#ID` names a recording of such a file.
    """

    key: str
    name: str
    recognizes: Callable[[Source], bool]
    read: Callable[[Source], Recording]
    describes_itself: bool = True
    holds_many: bool = False


# The first that recognizes a file reads it.
FORMATS: tuple[Format, ...] = (
    Format("wfdb", "WFDB (a .hea header beside the samples)", is_wfdb, read_wfdb, describes_itself=False),
    Format("dicom", "DICOM waveform", is_dicom, read_dicom),
    Format("edf", "EDF or BDF", is_edf, read_edf, describes_itself=False),
    Format("scp", "SCP-ECG", is_scp, read_scp),
    Format("muse_xml", "GE MUSE XML", is_muse_xml, read_muse_xml),
    Format("cardiosoft_xml", "GE CardioSoft XML", is_cardiosoft_xml, read_cardiosoft_xml),
    Format("hl7_aecg", "HL7 aECG", is_hl7_aecg, read_hl7_aecg, holds_many=True),
    Format("philips_xml", "Philips Sierra XML", is_philips_xml, read_philips_xml),
    Format("matlab", "MATLAB", is_matlab, read_matlab, describes_itself=False, holds_many=True),
    Format("hdf5", "HDF5", is_hdf5, read_hdf5, describes_itself=False, holds_many=True),
    Format("npy", "NPY", is_npy, read_npy, describes_itself=False, holds_many=True),
    Format("npz", "NPZ", is_npz, read_npz, describes_itself=False, holds_many=True),
    Format("mfer", "MFER", is_mfer, read_mfer),
    Format("csv", "CSV (numbers under the names of leads)", is_csv, read_csv, describes_itself=False),
)


NOT_OF_MANY = "Expected #ID after a file of many recordings. Received another file."
# How files of other kinds begin.
LOOKS = {
    b"%PDF-": "a PDF, a picture of an ECG: export the samples",
    b"\x89PNG": "a PNG image: export the samples",
    b"\xff\xd8\xff": "a JPEG image: export the samples",
    b"II*\0": "a TIFF image: export the samples",
    b"\x1f\x8b": "a gzip file: decompress it first",
    b"PK\x03\x04": "a zip archive: unpack it first",
    b"BZh": "a bzip2 file: decompress it first",
    b"7z\xbc\xaf": "a 7z archive: unpack it first",
    b"ISHNE": "an ISHNE Holter file: convert it to EDF or WFDB",
}
# What XML of makers without a reader contains, in lower case.
XML_LOOKS = {
    b"<sapphire": "GE Sapphire XML, as the MAC 2000 exports: export DICOM or MUSE XML",
    b"<examdescript": "Schiller XML: export DICOM, HL7 aECG or SCP-ECG",
    b"schiller": "Schiller XML: export DICOM, HL7 aECG or SCP-ECG",
    b"mortara": "Mortara XML: export DICOM, HL7 aECG or SCP-ECG",
    b'"urn:hl7-org:v3"': "HL7 version 3 XML that is no annotated ECG",
    b"http://hl7.org/fhir": "a FHIR resource in XML",
}


def open_recording(path: str | os.PathLike[str], signal: Signal | None = None) -> Recording:
    """Reads a recording, whichever known format it is in.

    Args:
        path: the file. A WFDB record also goes by its name without an extension. `FILE#ID` is one recording of a file
            of many: ID is looked up among the file's ids (`exam_id` and the like), or counts from 0 where it has none.
        signal: sampling rate, unit and leads of files that do not state theirs.

    Raises:
        RecordingError: nothing is there, no reader knows it, or its reader refuses it. A file that ends its process,
            as damaged HDF5 can, or takes minutes over it does so here: `isolation.open_isolated` is for files of
            unknown origin.
    """
    source = Source(os.fspath(path), signal or Signal())
    try:
        with warnings.catch_warnings():
            # The libraries' warnings quote files. Absurd scales give infinity, which conforming refuses.
            warnings.simplefilter("ignore")
            return _read(source)
    except RecordingError:
        raise
    except MemoryError:
        raise source.refusal("too_long", "Reading the file takes too much memory. Cut a long recording.") from None
    except EOFError:
        raise source.refusal("truncated", "The file ends too early.") from None
    except Exception:  # what the libraries raise depends on the bytes, and may quote a patient
        raise source.refusal("malformed", "The file is damaged, or not of the format that it begins as.") from None


def _read(source: Source) -> Recording:
    found = next((known for known in FORMATS if known.recognizes(source)), None)
    if found is None:
        raise unknown(source)
    source.expect(source.record_id is None or found.holds_many or found.key == "wfdb", "unknown_format", NOT_OF_MANY)
    return found.read(source)


def unknown(source: Source) -> RecordingError:
    """Why no reader knows a source."""
    if source.record_id is not None:
        return source.refusal("unknown_format", NOT_OF_MANY)
    if not os.path.exists(source.file):
        return source.refusal("missing", "Expected a recording at this path. Received none.")
    if not os.path.isfile(source.file):
        return source.refusal("missing", "Expected a file. Received a folder or a special file.")
    formats = ", ".join(known.name for known in FORMATS)
    return source.refusal("unknown_format", f"Expected one of {formats}. Received {look(source)}.")


def look(source: Source) -> str:
    """What a file that no reader knows seems to be."""
    head = source.head
    for start, what in LOOKS.items():
        if head.startswith(start):
            return what
    if head.lstrip().startswith(b"{"):
        return "a FHIR resource in JSON" if b'"resourceType"' in head else "JSON"
    if source.root is not None:
        text = head.replace(b"\0", b"").lower()  # UTF-16 as well
        return next((what for word, what in XML_LOOKS.items() if word in text), "XML of another kind")
    return "an empty file" if not head else "none of them"


def describes_itself(key: str) -> bool:
    """Whether files of a format, by `Recording.format`, never need a sidecar."""
    return next(known.describes_itself for known in FORMATS if known.key == key)
