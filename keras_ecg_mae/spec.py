"""The signal contract every room of the package agrees on.

Sawano et al., Methods: a recording is 12 leads x 5000 samples (10 s at 500 Hz), cut lead by lead into
1 x 250 patches (0.5 s), 240 in all.
"""

LEADS: tuple[str, ...] = ("I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6")
SAMPLING_RATE_HZ = 500
SAMPLES = 5000
DURATION_S = SAMPLES / SAMPLING_RATE_HZ
PATCH_SAMPLES = 250
PATCHES_PER_LEAD = SAMPLES // PATCH_SAMPLES
PATCHES = len(LEADS) * PATCHES_PER_LEAD

# One stored unit of a dataset's int16 samples. 1 uV resolves every device on the market
# (IEC 60601-2-25 asks for 5 uV) and int16 still reaches +-32.767 mV, above any surface ECG.
MILLIVOLTS_PER_UNIT = 1e-3

# The units that samples come in.
MILLIVOLTS_PER: dict[str, float] = {"V": 1e3, "mV": 1.0, "uV": 1e-3, "nV": 1e-6}
# A micro sign or a Greek mu of UTF-8 is two characters where a field is read as Latin-1.
_MICRO = ("u", "\N{MICRO SIGN}", "\N{GREEK SMALL LETTER MU}", "\xc2\xb5", "\xce\xbc", "micro")
_PREFIXES = {"V": ("",), "mV": ("m", "milli"), "uV": _MICRO, "nV": ("n", "nano")}
_SPELLINGS = {
    (prefix + volt).lower(): unit
    for unit, prefixes in _PREFIXES.items()
    for prefix in prefixes
    for volt in ("V", "Volt", "Volts")
}


def signal_contract() -> dict[str, object]:
    """The contract as plain data, for dataset manifests and exported models."""
    return {
        "leads": list(LEADS),
        "sampling_rate_hz": SAMPLING_RATE_HZ,
        "samples": SAMPLES,
        "unit": "mV",
        "patch_samples": PATCH_SAMPLES,
    }


def voltage_unit(text: str) -> str | None:
    """The key of `MILLIVOLTS_PER` that `text` spells, in upper or lower case, or None where it spells none.

    `MV` is a megavolt where the case of a prefix means something (UCUM, so DICOM and HL7; EDF+), hence none here. A
    format in which it cannot mean a megavolt passes its text in lower case.
    """
    text = text.strip(" \t\r\n\0")
    return None if text.startswith(("MV", "Mv")) else _SPELLINGS.get(text.lower())
