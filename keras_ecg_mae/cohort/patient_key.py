"""Keys in place of patient ids: keyed hashes, whose secret the user owns and the dataset never holds."""

import hashlib
import hmac
import os
import secrets

from keras_ecg_mae.config import Cohort
from keras_ecg_mae.errors import ConfigError, DatasetError
from keras_ecg_mae.files import is_remote

_LEAST_SECRET_BYTES = 16
_KEY_BYTES = 16


class PatientKeys:
    """Turns patient ids into keys. Who has a key but not the secret cannot try ids out against it.

    Args:
        secret: what the hash is keyed with (HMAC-SHA-256, RFC 2104).
    """

    def __init__(self, secret: bytes):
        self._secret = secret

    def key(self, patient_id: str) -> str:
        """32 hexadecimal digits, always the same for a patient and a secret."""
        return hmac.new(self._secret, b"patient " + patient_id.encode(), hashlib.sha256).hexdigest()[: 2 * _KEY_BYTES]

    @property
    def fingerprint(self) -> str:
        """Tells one secret from another, and nothing else about it: datasets that agree in it share their keys."""
        return hmac.new(self._secret, b"fingerprint", hashlib.sha256).hexdigest()[: 2 * _KEY_BYTES]


def secret_path(cohort: Cohort) -> str:
    """The file of the secret: `--patient_key_file`, or beside the dataset.

    Raises:
        ConfigError: it would lie inside the dataset folder, or a dataset in cloud storage has none named.
    """
    output = cohort.output.rstrip("/")
    if is_remote(output):
        if not cohort.patient_key_file:
            raise ConfigError(
                "Expected --patient_key_file, a file on this machine, for a dataset in cloud storage. Received none."
            )
        return cohort.patient_key_file
    path = cohort.patient_key_file or output + ".key"
    folder = os.path.realpath(output)
    if os.path.commonpath([folder, os.path.realpath(path)]) == folder:
        raise ConfigError(f"Expected --patient_key_file outside the dataset folder {cohort.output}. Received {path}.")
    return path


def read_keys(path: str) -> PatientKeys | None:
    """The keys of an existing secret, None where there is no such file.

    Raises:
        DatasetError: the file cannot be read or is too short for a secret.
    """
    try:
        with open(path, "rb") as file:
            secret = file.read().strip()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise DatasetError(f"{path}: Expected a readable patient key file. Received: {error.strerror}.") from error
    if len(secret) < _LEAST_SECRET_BYTES:
        raise DatasetError(
            f"{path}: Expected a secret of at least {_LEAST_SECRET_BYTES} bytes (--patient_key_file). "
            f"Received {len(secret)}."
        )
    return PatientKeys(secret)


def create_keys(path: str) -> PatientKeys:
    """Makes a new secret at `path`, readable by its owner only.

    Raises:
        DatasetError: the file cannot be made.
    """
    secret = secrets.token_hex(32).encode()
    try:
        os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as error:
        raise DatasetError(
            f"{path}: Expected to make the patient key file there. Received: {error.strerror}."
        ) from error
    with os.fdopen(descriptor, "wb") as file:
        file.write(secret + b"\n")
    return PatientKeys(secret)
