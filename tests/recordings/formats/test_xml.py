import codecs
import json
import socket
from pathlib import Path
from xml.etree.ElementTree import Element

import numpy as np
import pytest

from keras_ecg_mae.errors import RecordingError
from keras_ecg_mae.recordings import open_recording
from keras_ecg_mae.recordings.formats.xml import (
    carried_leads,
    child_text,
    decimal,
    read_samples,
    read_xml,
    root_name,
)
from keras_ecg_mae.recordings.source import Source
from tests.recordings.conftest import written

NAME = "王伟 Müller"  # what encodings differ in, and what nobody may read in a message
BOMB = "".join(f'<!ENTITY {chr(98 + level)} "{f"&{chr(97 + level)};" * 10}">' for level in range(9))


def xml_of(path: str) -> Element:
    return read_xml(Source(path))


def refused(path: str) -> RecordingError:
    with pytest.raises(RecordingError) as caught:
        xml_of(path)
    assert caught.value.__cause__ is None  # expat's and defusedxml's errors quote the file
    return caught.value


@pytest.mark.parametrize(
    ("content", "name"),
    [
        ("<RestingECG>", "RestingECG"),
        ("<RestingECG/>", "RestingECG"),
        ("<?xml version='1.0'?>\n<!-- <Other> -->\n<?style x?><RestingECG>", "RestingECG"),
        ('<!DOCTYPE RestingECG SYSTEM "restecg.dtd">\n<RestingECG>', "RestingECG"),
        ('<?xml version="1.0"?><h:AnnotatedECG xmlns:h="urn:hl7-org:v3">', "AnnotatedECG"),
        (codecs.BOM_UTF8 + b"<RestingECG>", "RestingECG"),
        ("<RestingECG>".encode("utf-16"), "RestingECG"),
        ("\r\n<RestingECG>".encode("utf-16-be"), "RestingECG"),
        (f'<?xml version="1.0" encoding="GB2312"?><!-- {NAME[:2]} --><RestingECG>'.encode("gb2312"), "RestingECG"),
        ("", None),
        ("<", None),
        ("<!-- RestingECG", None),
        ("<RestingECG", None),
        (b"\x00\x01\xff\xfe" * 1000, None),
    ],
)
def test_the_root_s_name(content: str | bytes, name: str | None) -> None:
    assert root_name(content.encode() if isinstance(content, str) else content) == name


@pytest.mark.parametrize(
    "document",
    [
        f'<!DOCTYPE r [<!ENTITY a "lol">{BOMB}]><r>&j;</r>',  # billion laughs
        '<!DOCTYPE r [<!ENTITY a SYSTEM "http://127.0.0.1:9/a">]><r b="&a;"/>',
        '<!DOCTYPE r [<!ENTITY % a SYSTEM "http://127.0.0.1:9/a.dtd"> %a;]><r/>',
        '<!DOCTYPE r [<!ENTITY a "harmless">]><r/>',
        '<!DOCTYPE r [<!NOTATION n SYSTEM "n"><!ENTITY a SYSTEM "a.gif" NDATA n>]><r/>',
    ],
)
def test_hostile_documents_are_refused_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, document: str) -> None:
    def no_network(*_: object) -> None:
        raise AssertionError("a socket was opened")

    monkeypatch.setattr(socket, "socket", no_network)
    path = written(tmp_path, document)
    assert root_name(document.encode()) == "r"
    assert refused(path).code == "unsafe"


def test_a_document_type_alone_is_read_and_not_fetched(tmp_path: Path) -> None:
    (tmp_path / "restecg.dtd").write_text('<!ENTITY name "from outside"><!ATTLIST r a CDATA "default">')
    declaration = f'<!DOCTYPE r SYSTEM "{tmp_path}/restecg.dtd">'
    root = xml_of(written(tmp_path, f"{declaration}<r>inside</r>"))
    assert (root.tag, root.text, root.attrib) == ("r", "inside", {})
    assert xml_of(written(tmp_path, f"{declaration}<r>&name;</r>")).text == "&name;"  # not what stands outside


@pytest.mark.parametrize(
    ("encoding", "declared", "text"),
    [
        ("utf-8", None, NAME),
        ("utf-8", "UTF-8", NAME),
        ("utf-8-sig", "gb2312", NAME),  # a byte order mark has the last word
        ("utf-16", "utf-16", NAME),
        ("utf-16-le", "utf-16", NAME),  # without a byte order mark
        ("utf-16-be", "UTF-16", NAME),
        ("latin-1", "ISO-8859-1", "Müller"),
        ("cp1252", "windows-1252", "Müller €"),
        ("gb2312", "GB2312", "王伟"),
        ("gbk", "gb2312", "王伟 朱镕基"),  # the last name has a character that GB2312 lacks
        ("gb18030", "GB18030", "王伟 €"),
        ("big5", "Big5", "王偉"),
        ("shift_jis", "Shift_JIS", "山田"),
    ],
)
def test_encodings(tmp_path: Path, encoding: str, declared: str | None, text: str) -> None:
    declaration = f'<?xml version="1.0" encoding="{declared}"?>' if declared else ""
    root = xml_of(written(tmp_path, f"\n{declaration}<r><name>{text}</name><n>1</n></r>".encode(encoding)))
    assert child_text(root, "name") == text
    assert child_text(root, "n") == "1"


@pytest.mark.parametrize(
    ("encoding", "declared"),
    [
        ("gbk", "UTF-8"),
        ("latin-1", "utf-8"),
        ("utf-8", "utf-16"),  # what is left when a tool saves UTF-16 as UTF-8
        ("utf-8", "no-such-encoding"),
    ],
)
def test_a_wrong_declaration_costs_the_free_text_alone(tmp_path: Path, encoding: str, declared: str | None) -> None:
    declaration = f'<?xml version="1.0" encoding="{declared}"?>' if declared else ""
    name = "朱镕基" if encoding == "gbk" else "Müller"
    root = xml_of(written(tmp_path, f"{declaration}<r><name>{name}</name><n>1</n></r>".encode(encoding)))
    assert [child.tag for child in root] == ["name", "n"]
    assert child_text(root, "n") == "1"


def test_names_lose_their_namespace(tmp_path: Path) -> None:
    root = xml_of(written(tmp_path, '<r xmlns="urn:a" xmlns:b="urn:b"><b:c b:d="1" e="2">3</b:c></r>'))
    assert (root.tag, child_text(root, "c"), root[0].attrib) == ("r", "3", {"d": "1", "e": "2"})


@pytest.mark.parametrize("document", ["", "<r>", "<r></s>", "<r/><r/>", "<r a=1/>", "x"])
def test_malformed_documents(tmp_path: Path, document: str) -> None:
    assert refused(written(tmp_path, document)).code == "malformed"


def test_messages_quote_nothing(tmp_path: Path) -> None:
    for document in (
        "<Jane></Doe>",
        '<!DOCTYPE Doe [<!ENTITY Jane "Doe">]><Doe/>',
    ):
        message = str(refused(written(tmp_path, document)))
        assert "Doe" not in message
        assert "Jane" not in message


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("4.88", 4.88),
        (" -1.5e-05 ", -1.5e-5),
        *((text, None) for text in ("", None, "nan", "inf", "1e999", "4,88", "0x10", "1 2", "9" * 400)),
    ],
)
def test_decimals(text: str | None, value: float | None) -> None:
    assert decimal(text) == value


def test_samples() -> None:
    np.testing.assert_array_equal(read_samples(Source("p"), " 1 -2\n\t3.5 1e3 ", None, "lead I"), [1, -2, 3.5, 1000])
    np.testing.assert_array_equal(read_samples(Source("p"), "\t1,-2,\n3,", ",", "lead I"), [1, -2, 3])
    assert read_samples(Source("p"), None, ",", "lead I").size == 0
    for text in ("1,,2", "1 2", ",1", "Jane", "nan", "inf"):
        with pytest.raises(RecordingError, match="samples of lead I") as caught:
            read_samples(Source("p"), text, ",", "lead I")
        assert caught.value.code == "malformed"
        assert "Jane" not in str(caught.value)


def test_labels() -> None:
    labels = ("I", "aVR", "MDC_ECG_LEAD_V1", "V3R", "Lead II", "MDC_ECG_LEAD_V7")
    assert carried_leads(Source("p"), labels) == labels
    # Any other word may be a name.
    assert carried_leads(Source("p"), ("I", "MUSTERMANN ERIKA", "MDC_ECG_LEAD_DOE", "V3R")) == (
        "I",
        "signal 2",
        "signal 3",
        "V3R",
    )
    for lead in ("", "1980-01-01", "Doe, Jane", "x" * 40, NAME):
        with pytest.raises(RecordingError, match="Signal 2") as caught:
            carried_leads(Source("p"), ("I", lead))
        assert caught.value.code == "leads"


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("RHYTHM & RATE", "RHYTHM & RATE"),
        ("RATE <60", "RATE <60"),
        ("P < R > S", "P < R > S"),
        ("SINUS\x1fRHYTHM", "SINUS\ufffdRHYTHM"),
        ("SINUS&#x1F;RHYTHM&#0;&#11;", "SINUS\ufffdRHYTHM\ufffd\ufffd"),
        ("&lt;60 &#60; &amp;", "<60 < &"),
    ],
)
def test_text_that_must_not_stand_in_xml_costs_nothing(tmp_path: Path, text: str, read: str) -> None:
    root = xml_of(written(tmp_path, f'<r a="1"><b/><c d="2" >{text}</c><n>1</n></r>\r\n\0\0'))
    assert child_text(root, "c") == read
    assert child_text(root, "n") == "1"


@pytest.mark.parametrize("name", ["ampersand", "less_than", "control_character", "character_reference", "trailing_nul"])
def test_muse_exports_with_broken_statements(shared: Path, name: str) -> None:
    case = shared / "cases" / "W02"
    expected = json.loads((case / "expected.json").read_text())["expected"][f"{name}.xml"]
    recording, whole = open_recording(case / f"{name}.xml"), open_recording(case / "ok.xml")
    assert recording.sampling_rate_hz == expected["sampling_rate_hz"]
    np.testing.assert_array_equal(recording.ecg_mv, whole.ecg_mv)
    for lead, row in zip(recording.leads, recording.ecg_mv, strict=True):
        assert np.ptp(row) == pytest.approx(expected["peak_to_peak_mv"][lead], abs=0.006)
