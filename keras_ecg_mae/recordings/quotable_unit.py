"""Which units a message may quote: a name fits into a unit's field as well, and damage may move one there."""

import re

# Units that signals beside an ECG have, and those that an ECG cannot have or that are misspelled.
QUOTABLE_UNIT = re.compile(
    r"[kmunp\N{MICRO SIGN}\N{GREEK SMALL LETTER MU}]?(V|A|W|Pa|g|m|s|Hz|Ohm|S|L|V/s|A/s)|mmHg|mm\[Hg\]|cmH2O|bpm|/min"
    r"|L/min|deg ?[CF]?|Cel|%|ADU|NU|LSB|dB|a\.?u\.?|(milli|micro|nano)?volts?|counts?|digits?|(no|un)?units?|none",
    re.IGNORECASE,
)
