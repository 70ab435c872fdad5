"""Units of voltage as files spell them: one table for all readers."""

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


def voltage_unit(text: str) -> str | None:
    """The key of `MILLIVOLTS_PER` that `text` spells, in upper or lower case, or None where it spells none.

    `MV` is a megavolt where the case of a prefix means something (UCUM, so DICOM and HL7; EDF+), hence none here. A
    format in which it cannot mean that hands over its text in lower case.
    """
    text = text.strip(" \t\r\n\0")
    return None if text.startswith(("MV", "Mv")) else _SPELLINGS.get(text.lower())
