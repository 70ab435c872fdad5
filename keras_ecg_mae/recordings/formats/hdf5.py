"""HDF5: one array for many records, as CODE-15 is published, or a file a record. h5py reads it."""

from keras_ecg_mae.recordings.formats.array_files import open_hdf5
from keras_ecg_mae.recordings.formats.array_signal import ArrayFile, read_array_file
from keras_ecg_mae.recordings.recording import Recording
from keras_ecg_mae.recordings.source import Source

SIGNATURE = b"\x89HDF\r\n\x1a\n"
# The format's specification, II.A: the superblock begins at byte 0, 512, 1024, 2048 and so on. Blocks of a user's own
# before it are small.
SUPERBLOCKS = (0, 512, 1024, 2048, 4096)


def is_hdf5(source: Source) -> bool:
    """Whether the file that `path` or `FILE#ID` names has HDF5's signature."""
    head = source.head
    return any(head.startswith(SIGNATURE, start) for start in SUPERBLOCKS)


def read_hdf5(source: Source) -> Recording:
    """Reads the dataset of samples, or the record that `FILE#ID` names; only that is read from disk.

    Sampling rate, unit and leads are looked for in attributes of the dataset and of its groups, and in datasets beside
    it; then in the sidecar and in `signal`.

    Raises:
        RecordingError: and nothing else, whatever the file holds.
    """
    path, file, record_id, signal = source.path, source.file, source.record_id, source.signal
    with open_hdf5(source) as (arrays, named):
        return read_array_file(ArrayFile(path, file, record_id, "hdf5", arrays, named), signal)
