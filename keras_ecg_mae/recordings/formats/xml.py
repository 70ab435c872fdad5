"""XML of unknown origin: no entities, no external references (by defusedxml), and broken free text costs no ECG.

The bytes are decoded here. Expat knows four encodings, and exports come in others (GB2312 from China) or declare one
that they are not in. All names, numbers and samples are ASCII, so that what does not decode, someone's name, is
replaced by U+FFFD and never looked at. A document that is not well-formed is mended where its text has characters that
must not stand in it (`RATE <60`, `RHYTHM & RATE`, control characters), since exports write diagnoses as they are typed.

Names lose their namespace, and the elements are otherwise those of `xml.etree`.
"""

import codecs
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING
from xml.etree.ElementTree import Element, ParseError

import numpy as np
from defusedxml.common import DefusedXmlException
from defusedxml.ElementTree import fromstring

from keras_ecg_mae.recordings.leads_and_units import carried_name

if TYPE_CHECKING:
    from keras_ecg_mae.recordings.source import Source

# Comments may come before the root.
ROOT_BYTES = 1 << 16
NAME = r"[A-Za-z_][\w.-]*"
ROOT = re.compile(rf"<(?:!DOCTYPE\s+)?(?:{NAME}:)?({NAME})[\s/>\[]")
DECLARATION = re.compile(r"<\?xml[^>]*?encoding\s*=\s*[\"']([A-Za-z0-9._-]+)[\"'][^>]*>")
# Encodings in which ASCII is ASCII, by Python's names.
ENCODINGS = frozenset(
    ["utf-8", "ascii", "big5", "cp932", "cp949", "cp950", "euc_jp", "euc_kr", "gb18030", "koi8-r", "shift_jis"]
    + [f"iso8859-{part}" for part in range(1, 17)]
    + [f"cp{page}" for page in range(1250, 1259)]
)
WIDER = {"gb2312": "gb18030", "gbk": "gb18030"}  # as files that declare one often hold characters of the other
# What XML 1.0 has no place for, as itself or as a reference (2.2, 4.1).
CONTROL_CHARACTER = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]")
REFERENCE_TO_ONE = re.compile(r"&#(?:0*(?:[0-8]|1[124-9]|2[0-9]|3[01])|x0*(?:[0-8bcefBCEF]|1[0-9a-fA-F]));")
NO_REFERENCE = re.compile(r"&(?!(?:amp|lt|gt|quot|apos|#[0-9]+|#x[0-9a-fA-F]+);)")
ATTRIBUTE = r"""\s+[\w.:-]+\s*=\s*(?:"[^"]*"|'[^']*')"""
NO_TAG = re.compile(rf"<(?!/?[A-Za-z_][\w.:-]*(?:{ATTRIBUTE})*\s*/?>|[!?])")
LEAD_LABEL = re.compile(r"[A-Za-z][A-Za-z0-9_+ -]{0,31}")


def root_name(head: bytes) -> str | None:
    """The name of the root element, without its namespace, told by the file's first bytes; None where there is none."""
    if not head[:64].lstrip(b"\xef\xbb\xbf\xff\xfe\0 \t\r\n").startswith(b"<"):
        return None
    text = decode(head[:ROOT_BYTES])
    while text.startswith(("<?", "<!--")):
        text = text.partition("?>" if text.startswith("<?") else "-->")[2].lstrip()
    match = ROOT.match(text)
    return match[1] if match else None


def read_xml(source: "Source") -> Element:
    """The file's root element.

    Raises:
        RecordingError: `unsafe` where entities are declared, `malformed` where it is not XML.
    """
    text = decode(source.content)
    # What expat or defusedxml says quotes the file: hence no "from error".
    try:
        try:
            root: Element = fromstring(text)
        except ParseError:
            root = fromstring(mended(text))
    except DefusedXmlException:
        raise source.refusal("unsafe", "The XML declares entities, which no ECG needs.") from None
    except ParseError as error:
        raise source.refusal("malformed", f"The XML is not well-formed in line {error.position[0]}.") from None
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2]
        if any("}" in name for name in element.attrib):
            element.attrib = {name.rpartition("}")[2]: value for name, value in element.attrib.items()}
    return root


def mended(text: str) -> str:
    """A document with its free text as XML wants it: without control characters, `&` and `<` as references."""
    text = REFERENCE_TO_ONE.sub("\ufffd", CONTROL_CHARACTER.sub("\ufffd", text))
    text = NO_TAG.sub("&lt;", NO_REFERENCE.sub("&amp;", text))
    return text[: text.rfind(">") + 1]  # nothing belongs behind the root's end


def decode(content: bytes) -> str:
    """The text of an XML file or its head, from its first character that is not white, without its declaration.

    The encoding is that of the byte order mark, or UTF-16 where the bytes leave no doubt, or the declared one, or
    UTF-8.
    """
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        encoding = "utf-16"
    elif content.startswith(codecs.BOM_UTF8):
        encoding = "utf-8"
    elif content[1:2] == b"\0" or content[:1] == b"\0":
        encoding = "utf-16-le" if content[1:2] == b"\0" else "utf-16-be"
    else:
        encoding = declared_encoding(content)
    # The parser would not take a declaration of another encoding than the text's.
    return DECLARATION.sub("", content.decode(encoding, errors="replace").lstrip("\ufeff \t\r\n"), count=1).lstrip()


def declared_encoding(content: bytes) -> str:
    """What the XML declaration says, if that can be true of bytes in which it can be read as ASCII; UTF-8 else."""
    match = DECLARATION.search(content[:400].decode("latin-1"))
    try:
        name = codecs.lookup(match[1]).name if match else "utf-8"
    except LookupError:
        return "utf-8"
    name = WIDER.get(name, name)
    return name if name in ENCODINGS else "utf-8"


def child_text(element: Element, name: str) -> str:
    """The text of the first child of this name (or path of names), stripped; empty where there is none."""
    return (element.findtext(name) or "").strip()


def decimal(text: str | None) -> float | None:
    """The finite number that `text` spells, None where it spells none."""
    try:
        value = float(text or "")
    except ValueError:
        return None
    return value if np.isfinite(value) else None


def positive(source: "Source", text: str | None, name: str, code: str) -> float:
    """The positive number that `text` spells. Raises `RecordingError` of this code, naming `name`, elsewhere."""
    number = decimal(text)
    if number is None or number <= 0:
        raise source.refusal(code, f"{name} must be a positive number.")
    return number


def carried_leads(source: "Source", labels: Sequence[str]) -> tuple[str, ...]:
    """The labels as messages and a `Recording` may carry them: a label that is no lead's may be anyone's name.

    Raises:
        RecordingError: `leads`, where a label is missing, or no code at all.
    """
    source.expect(labels, "leads", "Expected leads. Received none.")
    for row, label in enumerate(labels, start=1):
        source.expect(LEAD_LABEL.fullmatch(label), "leads", f"Signal {row} must have a lead's name.")
    return tuple(carried_name(row, label) for row, label in enumerate(labels, start=1))


def read_samples(source: "Source", text: str | None, separator: str | None, what: str) -> np.ndarray:
    """The numbers in `text`, float64, between `separator`s (None: white space), of which one may end the text.

    Raises:
        RecordingError: `malformed`, naming `what`, where anything else stands there.
    """
    written = (text or "").strip()
    if separator is not None:
        written = written.removesuffix(separator)
    try:
        values = np.fromiter(map(float, written.split(separator) if written else ()), np.float64)
    except ValueError:  # it would quote the text
        values = None
    if values is None or not np.isfinite(values).all():
        raise source.refusal("malformed", f"The samples of {what} must be numbers.")
    return values
