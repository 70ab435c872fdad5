"""What single cells of a table say, besides ejection fractions and dates.

Each function takes a cell that is not empty and raises `ValueError` where it says nothing that is known. No message
holds any of the text: it may be a name.
"""

import re
import unicodedata

EMPTY = frozenset({"", "nan", "na", "n/a", "#n/a", "none", "null", "<na>", "nat", "-", "--"})
_DECIMAL = re.compile(r"\+?\d{1,9}(?:[.,]\d{0,20})?", re.ASCII)
# As DICOM writes ages (058Y, 006M), and with words.
_AGE = re.compile(
    r"(\d{1,4}(?:[.,]\d{0,20})?)\s*(y|m|w|d)(?:ears?|rs?|ears? old|o|onths?|eeks?|ays?)?\.?", re.ASCII | re.IGNORECASE
)
_A_YEAR = {"y": 1.0, "m": 12.0, "w": 52.1775, "d": 365.2425}
_LABELS = {"0": 0.0, "0.0": 0.0, "false": 0.0, "1": 1.0, "1.0": 1.0, "true": 1.0}
OLDEST = 130
_FEMALE = {
    *("f", "female", "w", "woman", "weiblich", "frau", "femme", "féminin", "feminin", "mujer", "femenino", "feminino"),
    *("femmina", "vrouw", "女", "女性"),
}
_MALE = {
    *("m", "male", "man", "männlich", "maennlich", "mannlich", "mann", "homme", "masculin", "hombre", "masculino"),
    *("maschio", "男", "男性"),
}
_OTHER = {
    *("unknown", "unk", "un", "other", "diverse", "divers", "undetermined", "indeterminate", "ambiguous", "intersex"),
    *("unspecified", "not specified", "non-binary", "nonbinary", "unbekannt", "?", "不明"),
}
_CODE = re.compile(r"[A-Za-z0-9]")


def read_label(text: str) -> float:
    """0 or 1."""
    try:
        return _LABELS[text.lower()]
    except KeyError:
        raise ValueError("Expected 0, 1, true, false or nothing. Received something else.") from None


def read_age(text: str) -> float:
    """Years, 0 to `OLDEST`: 58, 58 years, 058Y, 006M; 90 for 90+, as HIPAA's Safe Harbor has higher ages written."""
    text = unicodedata.normalize("NFKC", text)
    text = "90" if text == "90+" else text
    age = -1.0
    if _DECIMAL.fullmatch(text):
        age = float(text.replace(",", "."))
    elif match := _AGE.fullmatch(text):
        age = float(match[1].replace(",", ".")) / _A_YEAR[match[2].lower()]
    if not 0 <= age <= OLDEST:
        raise ValueError(f"Expected an age from 0 to {OLDEST} years or nothing. Received something else.")
    return age


def read_sex(text: str) -> str:
    """The sex in the table's own words: a letter or digit, or a word that is known to be one.

    It goes into the dataset as it is, so a name that slipped into the column must not pass.
    """
    if _CODE.fullmatch(text) or text.casefold() in _FEMALE | _MALE | _OTHER:
        return text
    raise ValueError("Expected one letter or digit (F, 1), or female, male or other. Received another text.")


def same_sex(word: str) -> str:
    """One spelling for words that mean the same, for comparing them."""
    word = word.casefold()
    return "female" if word in _FEMALE else "male" if word in _MALE else word
