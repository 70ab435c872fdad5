"""Spellings of leads and of voltages in files: one table for all readers."""

import re
from collections.abc import Sequence

from keras_ecg_mae import spec

# Readers know them from here. The settings, which know no recording, spell units alike.
from keras_ecg_mae.spec import MILLIVOLTS_PER as MILLIVOLTS_PER
from keras_ecg_mae.spec import voltage_unit as voltage_unit

# Einthoven: II = I + III. Goldberger: each augmented lead is an electrode against the mean of the other two. So all six
# limb leads are combinations of I and II (Malmivuo and Plonsey, Bioelectromagnetism, 1995, chapter 15), and any two of
# them give the other four.
LIMB_LEADS: dict[str, tuple[float, float]] = {
    "I": (1.0, 0.0),
    "II": (0.0, 1.0),
    "III": (-1.0, 1.0),
    "aVR": (-0.5, -0.5),
    "aVL": (1.0, -0.5),
    "aVF": (-0.5, 1.0),
}

# What formats put before a lead's name: ISO/IEEE 11073's MDC_ECG_LEAD_V1 (NOM_ in older files), "Lead V1", EDF's
# "ECG V1", "ECG Lead V1".
LEAD_PREFIX = re.compile(r"\A((?:mdc|nom)_ecg_lead_|lead[ _-]?|e[ck]g[ _:-])+", re.IGNORECASE)
LEAD_NAMES: dict[str, str] = (
    {lead.lower(): lead for lead in spec.LEADS}
    | {"di": "I", "dii": "II", "diii": "III"}
    | {"d1": "I", "d2": "II", "d3": "III"}
)
# IEC 60601-2-25 calls the electrodes of V1 to V6 so. Alone, C3 and C4 are electrodes of the brain.
CHEST_ELECTRODES = {f"C{number}": f"V{number}" for number in range(1, 7)}
# Beyond the contract's twelve; any other name is not carried on, since it may be anyone's.
FURTHER_LEAD = re.compile(r"V[3-9]R|V[7-9]|V?[XYZ]|ML?(I|II|III|V[1-6])", re.IGNORECASE)

# Units that error messages may print; anything else could be a patient's name.
# Units that signals beside an ECG have, and those that an ECG cannot have or that are misspelled.
QUOTABLE_UNIT = re.compile(
    r"[kmunp\N{MICRO SIGN}\N{GREEK SMALL LETTER MU}]?(V|A|W|Pa|g|m|s|Hz|Ohm|S|L|V/s|A/s)|mmHg|mm\[Hg\]|cmH2O|bpm|/min"
    r"|L/min|deg ?[CF]?|Cel|%|ADU|NU|LSB|dB|a\.?u\.?|(milli|micro|nano)?volts?|counts?|digits?|(no|un)?units?|none",
    re.IGNORECASE,
)


def lead_name(name: str) -> str | None:
    """The contract's name for a lead as files spell it (`AVR`, `Lead I`, `MDC_ECG_LEAD_V1`, `DII`), or None."""
    return LEAD_NAMES.get(LEAD_PREFIX.sub("", name.strip()).lower())


def lead_names(names: Sequence[str]) -> tuple[str | None, ...]:
    """As `lead_name`, of all leads of a recording. C1 to C6 are V1 to V6 if all six stand beside limb leads alone."""
    leads = [lead_name(name) for name in names]
    electrodes = [LEAD_PREFIX.sub("", name.strip()).upper() for name in names]
    if set(CHEST_ELECTRODES) <= set(electrodes) and any(leads) and set(leads) <= {*LIMB_LEADS, None}:
        leads = [CHEST_ELECTRODES.get(electrode, lead) for electrode, lead in zip(electrodes, leads, strict=True)]
    return tuple(leads)


def carried_name(number: int, name: str) -> str:
    """A lead's name as a `Recording` may carry it: as the file spells it where it is a lead's, else `signal NUMBER`."""
    bare = LEAD_PREFIX.sub("", name)
    is_lead = lead_name(name) or FURTHER_LEAD.fullmatch(bare) or bare.upper() in CHEST_ELECTRODES
    return name if is_lead else f"signal {number}"
