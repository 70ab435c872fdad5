"""Hospital files to 12 x 5000 millivolts: reading, conforming, quality, drawing."""

from keras_ecg_mae.recordings.conform import conform
from keras_ecg_mae.recordings.open import open_recording
from keras_ecg_mae.recordings.recording import Recording

__all__ = ["Recording", "conform", "open_recording"]
