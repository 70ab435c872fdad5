"""The masked autoencoder of Sawano et al., the classifiers, and weights that others published."""

from keras_ecg_mae.models.autoencoder import MaskedAutoencoder
from keras_ecg_mae.models.classifier import Classifier
from keras_ecg_mae.models.cnn import CnnClassifier
from keras_ecg_mae.models.decoder import Decoder
from keras_ecg_mae.models.encoder import Encoder

__all__ = ["Classifier", "CnnClassifier", "Decoder", "Encoder", "MaskedAutoencoder"]
