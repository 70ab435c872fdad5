"""One door to every format."""

import os
from collections.abc import Callable
from dataclasses import dataclass

from keras_ecg_mae.config import Signal
from keras_ecg_mae.errors import RecordingError
from keras_ecg_mae.recordings.cardiosoft_xml_reader import is_cardiosoft_xml, read_cardiosoft_xml
from keras_ecg_mae.recordings.csv_reader import is_csv, read_csv
from keras_ecg_mae.recordings.dicom_reader import is_dicom, read_dicom
from keras_ecg_mae.recordings.edf_reader import is_edf, read_edf
from keras_ecg_mae.recordings.hdf5_reader import is_hdf5, read_hdf5
from keras_ecg_mae.recordings.hl7_aecg_reader import is_hl7_aecg, read_hl7_aecg
from keras_ecg_mae.recordings.matlab_reader import is_matlab, read_matlab
from keras_ecg_mae.recordings.muse_xml_reader import is_muse_xml, read_muse_xml
from keras_ecg_mae.recordings.numpy_reader import is_npy, is_npz, read_npy, read_npz
from keras_ecg_mae.recordings.philips_xml_reader import is_philips_xml, read_philips_xml
from keras_ecg_mae.recordings.record_path import split_record_path
from keras_ecg_mae.recordings.recording import Recording
from keras_ecg_mae.recordings.signal_statement import NOTHING_SAID
from keras_ecg_mae.recordings.wfdb_reader import is_wfdb, read_wfdb


@dataclass(frozen=True)
class Reader:
    """A format: how to tell that a path is one, and how to read it.

    Attributes:
        format: as `Recording.format` and messages name it.
        recognizes: looks at the content, cheaply, and raises nothing.
        read: decodes, and raises nothing but `RecordingError`. The settings say what such files may leave unsaid;
            formats that describe themselves take no notice of them.
    """

    format: str
    recognizes: Callable[[str], bool]
    read: Callable[[str, Signal], Recording]


# Asked in this order; the first that recognizes the content reads it.
READERS: tuple[Reader, ...] = (
    Reader("WFDB (a .hea header beside the samples)", is_wfdb, lambda path, _: read_wfdb(path)),
    Reader("DICOM waveform", is_dicom, lambda path, _: read_dicom(path)),
    Reader("EDF or BDF", is_edf, lambda path, _: read_edf(path)),
    Reader("GE MUSE XML", is_muse_xml, lambda path, _: read_muse_xml(path)),
    Reader("GE CardioSoft XML", is_cardiosoft_xml, lambda path, _: read_cardiosoft_xml(path)),
    Reader("HL7 aECG", is_hl7_aecg, lambda path, _: read_hl7_aecg(path)),
    Reader("Philips Sierra XML", is_philips_xml, lambda path, _: read_philips_xml(path)),
    Reader("MATLAB", is_matlab, read_matlab),
    Reader("HDF5", is_hdf5, read_hdf5),
    Reader("NPY", is_npy, read_npy),
    Reader("NPZ", is_npz, read_npz),
    Reader("CSV (numbers under the names of leads)", is_csv, read_csv),
)


def open_recording(path: str | os.PathLike[str], signal: Signal = NOTHING_SAID) -> Recording:
    """Reads a recording, whichever known format it is in.

    Args:
        path: the file. A WFDB record also goes by its name without an extension. `FILE#ID` is one recording of a file
            of many: ID is looked up among the file's ids (`exam_id` and the like), or counts from 0 where it has none.
        signal: sampling rate, unit and leads of files that do not state theirs.

    Raises:
        RecordingError: nothing is there, no reader knows it, or its reader refuses it.
    """
    path = os.fspath(path)
    for reader in READERS:
        if reader.recognizes(path):
            return reader.read(path, signal)
    if split_record_path(path)[1] is not None:
        raise RecordingError(
            path, "unknown_format", "Expected #ID after a file of many recordings. Received another file."
        )
    if not os.path.exists(path):
        raise RecordingError(path, "missing", "Expected a recording at this path. Received none.")
    if not os.path.isfile(path):
        raise RecordingError(path, "missing", "Expected a file. Received a folder or a special file.")
    formats = ", ".join(reader.format for reader in READERS)
    raise RecordingError(path, "unknown_format", f"Expected one of {formats}. Received none of them.")


def recording_file(path: str | os.PathLike[str]) -> str:
    """The file that a recording's path means: what stands before `#` in `FILE#ID`, else the path itself."""
    path = os.fspath(path)
    return path if is_wfdb(path) else split_record_path(path)[0]
