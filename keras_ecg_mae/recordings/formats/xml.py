"""XML of unknown origin, read without doing what it says: entities, outside references and endless nesting are refused.

Expat does the parsing, by way of defusedxml, which refuses entity declarations (billion laughs, quadratic blow-up) and
external references. Beyond that:

* A document type may be named (`<!DOCTYPE RestingECG SYSTEM "restecg.dtd">`, as MUSE writes) and is never fetched.
  Default attributes, which multiply as entities do, it may not declare either.
* Size, depth and number of elements and attributes are limited, and so is the length of a namespace, which expat
  writes out in front of every name that has its prefix.
* The bytes are decoded here. Expat knows four encodings, and exports come in others (GB2312 from China) or declare one
  that they are not in. All names, numbers and samples are ASCII, so that what does not decode, someone's name, is
  replaced by U+FFFD and never looked at.

Names lose their namespace, and the elements are otherwise those of `xml.etree`.
"""

import codecs
import os
import re
from collections.abc import Sequence
from xml.etree.ElementTree import Element, ParseError, TreeBuilder

import numpy as np
from defusedxml.common import DefusedXmlException
from defusedxml.ElementTree import DefusedXMLParser

from keras_ecg_mae.errors import RecordingError
from keras_ecg_mae.recordings.leads_and_units import carried_name

# Twelve leads at 500 Hz for nine minutes, five characters a sample. Read as numbers, 16 MiB of digits take 500 MB.
LARGEST_XML_BYTES = 1 << 24
# What ECGs have: 20 levels and 3,000 elements (an aECG with its annotations).
MOST_ELEMENTS = 100_000
MOST_ATTRIBUTES = 100
DEEPEST_ELEMENT = 100
LONGEST_NAMESPACE = 1000
# No converter has more than 64 bits.
LARGEST_SAMPLE = 2.0**63
# Comments may come before the root.
HEAD_BYTES = 1 << 16

DECLARATION = re.compile(r"<\?xml[^>]{0,200}?encoding\s{0,9}=\s{0,9}[\"']([A-Za-z0-9._-]{1,40})[\"']")
# No alternative begins as another does, so that none is tried twice.
DOCUMENT_TYPE = re.compile(
    r"""<!DOCTYPE (?: [^"'\[>] | "[^"]*" | '[^']*' )* (?: \[ (?: [^"'\]] | "[^"]*" | '[^']*' )* \] \s* )? >""",
    re.VERBOSE,
)
DOCUMENT_TYPE_NAME = re.compile(r"<!DOCTYPE\s{1,99}(?:[A-Za-z_][\w.-]{0,99}:)?([A-Za-z_][\w.-]{0,99})")
ROOT = re.compile(r"<(?:[A-Za-z_][\w.-]{0,99}:)?([A-Za-z_][\w.-]{0,99})[\s/>]")

# Encodings in which ASCII is ASCII, by Python's names. The others that Python knows are no encodings of text files, and
# some are slow beyond measure (punycode).
ENCODINGS = frozenset(
    ["utf-8", "ascii", "big5", "cp932", "cp949", "cp950", "euc_jp", "euc_kr", "gb18030", "koi8-r", "shift_jis"]
    + [f"iso8859-{part}" for part in range(1, 17)]
    + [f"cp{page}" for page in range(1250, 1259)]
)
WIDER = {"gb2312": "gb18030", "gbk": "gb18030"}  # as files that declare one often hold characters of the other

DECIMAL = re.compile(r"[+-]?[0-9]{1,30}(\.[0-9]{0,30})?([eE][+-]?[0-9]{1,3})?|[+-]?\.[0-9]{1,30}([eE][+-]?[0-9]{1,3})?")
LEAD_LABEL = re.compile(r"[A-Za-z][A-Za-z0-9_+ -]{0,31}")


def root_name(head: bytes) -> str | None:
    """The name of the root element, without its namespace, told by the file's first bytes; None where there is none."""
    if not head.lstrip(b"\xef\xbb\xbf\xff\xfe\0 \t\r\n").startswith(b"<"):
        return None  # most files of other formats go no further
    text = decode(head)
    place = 0
    while True:
        while text[place : place + 1] in (" ", "\t", "\r", "\n"):
            place += 1
        if text.startswith("<!DOCTYPE", place):
            match = DOCUMENT_TYPE.match(text, place)
            if match is None:  # longer than the head: what it is the type of is the root
                match = DOCUMENT_TYPE_NAME.match(text, place)
                return match[1] if match else None
            end = match.end()
        elif text.startswith("<?", place):
            end = text.find("?>", place + 2) + 2
        elif text.startswith("<!--", place):
            end = text.find("-->", place + 4) + 3
        else:
            match = ROOT.match(text, place)
            return match[1] if match else None
        if end <= place:
            return None
        place = end


def read_xml(path: str) -> Element:
    """The file's root element.

    Raises:
        RecordingError: `missing`, `too_long`, `unsafe`, or `malformed` where it is not well-formed.
    """
    if not os.path.isfile(path):
        raise RecordingError(path, "missing", "Expected an XML file at this path. Received none.")
    try:
        with open(path, "rb") as file:
            content = file.read(LARGEST_XML_BYTES + 1)
    except OSError as error:
        raise RecordingError(path, "missing", f"Expected a readable file. Received {error.strerror}.") from error
    if len(content) > LARGEST_XML_BYTES:
        raise RecordingError(
            path, "too_long", f"Expected XML of at most {LARGEST_XML_BYTES >> 20} MiB. Received a larger file."
        )
    parser = SafeParser(path)
    # What expat or defusedxml says quotes the file: hence no "from error".
    try:
        parser.feed(decode(content))
        root: Element = parser.close()
    except DefusedXmlException:
        raise RecordingError(path, "unsafe", "Expected XML without entities. Received declarations of some.") from None
    except ParseError as error:
        line = error.position[0]
        raise RecordingError(
            path, "malformed", f"Expected well-formed XML. Received something else in line {line}."
        ) from None
    return root


class SafeParser(DefusedXMLParser):
    """Expat over a bounded tree, without entities, outside references and default attributes."""

    def __init__(self, path: str):
        super().__init__(target=BoundedTree(path))
        self._path = path
        self._start_element = self.parser.StartElementHandler
        self.parser.StartElementHandler = self._start_if_bounded
        self.parser.AttlistDeclHandler = self._refuse_default_attribute

    def _start_if_bounded(self, tag: str, attributes: list[str]) -> None:
        if len(attributes) > 2 * MOST_ATTRIBUTES:  # names and values in turn
            raise RecordingError(
                self._path, "unsafe", f"Expected at most {MOST_ATTRIBUTES} attributes of an XML element. Received more."
            )
        self._start_element(tag, attributes)

    def _refuse_default_attribute(self, *_: object) -> None:
        raise RecordingError(
            self._path, "unsafe", "Expected a document type without default attributes. Received declarations of some."
        )


class BoundedTree(TreeBuilder):
    """Builds a tree of bounded size, whose names have no namespaces."""

    def __init__(self, path: str):
        super().__init__()
        self._path, self._elements, self._depth = path, 0, 0

    def start(self, tag: str, attrs: dict[str, str]) -> Element:
        self._elements += 1
        self._depth += 1
        if self._elements > MOST_ELEMENTS:
            raise RecordingError(self._path, "unsafe", f"Expected at most {MOST_ELEMENTS} XML elements. Received more.")
        if self._depth > DEEPEST_ELEMENT:
            raise RecordingError(
                self._path, "unsafe", f"Expected XML elements nested {DEEPEST_ELEMENT} deep at most. Received deeper."
            )
        return super().start(without_namespace(tag), {without_namespace(name): attrs[name] for name in attrs})

    def end(self, tag: str) -> Element:
        self._depth -= 1
        return super().end(without_namespace(tag))

    def start_ns(self, prefix: str, uri: str) -> None:
        if len(uri) > LONGEST_NAMESPACE:
            raise RecordingError(
                self._path, "unsafe", f"Expected namespaces of {LONGEST_NAMESPACE} characters at most. Received longer."
            )


def without_namespace(name: str) -> str:
    """`{urn:hl7-org:v3}series` as `series`."""
    return name.rpartition("}")[2]


def decode(content: bytes) -> str:
    """The text of an XML file or its head, from its first character that is not white.

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
    return content.decode(encoding, errors="replace").lstrip("\ufeff \t\r\n")


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
    if text is None or DECIMAL.fullmatch(text.strip()) is None:
        return None
    value = float(text)
    return value if np.isfinite(value) else None


def carried_leads(path: str, labels: Sequence[str]) -> tuple[str, ...]:
    """The labels as messages and a `Recording` may carry them: a label that is no lead's may be anyone's name.

    Raises:
        RecordingError: `leads`, where a label is missing, or no code at all.
    """
    for row, label in enumerate(labels, start=1):
        if LEAD_LABEL.fullmatch(label) is None:
            raise RecordingError(
                path, "leads", f"Expected a lead's name for signal {row}. Received {'other text' if label else 'none'}."
            )
    return tuple(carried_name(row, label) for row, label in enumerate(labels, start=1))


def read_samples(path: str, text: str | None, separator: str | None, what: str) -> np.ndarray:
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
    if values is None or "_" in written or not (np.abs(values) <= LARGEST_SAMPLE).all():  # NaN is not
        raise RecordingError(path, "malformed", f"Expected numbers as the samples of {what}. Received something else.")
    return values
