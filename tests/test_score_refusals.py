"""Every file that is no usable score is refused with one reason, in bounded memory."""

import tracemalloc
import zipfile
from pathlib import Path

import pytest

from notagen_jax.errors import NotaGenError
from notagen_jax.score import ScoreError, archive, piece_from_abc, read_piece, source

DATA = Path(__file__).parent / "data"
CONTAINER = '<container><rootfiles><rootfile full-path="{}"/></rootfiles></container>'
EMPTY_SCORE = (
    '<score-partwise><part-list><score-part id="P1"><part-name/></score-part></part-list>'
    '<part id="P1"><measure number="1">{}</measure></part></score-partwise>'
)
LAUGHS = (
    '<!DOCTYPE score-partwise [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">]>'
    "<score-partwise><work><work-title>&b;</work-title></work></score-partwise>"
)


def refusal(path: Path) -> ScoreError:
    with pytest.raises(ScoreError) as caught:
        read_piece(path)
    assert isinstance(caught.value, NotaGenError)
    assert str(caught.value).startswith(f"{path}: {caught.value.reason}")
    return caught.value


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("a.xml", b"", "the file is empty"),
        ("a.xml", b" \n", "the file is empty"),
        ("a.xml", b"hello", "not well-formed XML"),
        ("a.xml", b"<score-partwise><part>", "not well-formed XML"),
        ("a.xml", b'<?xml version="1.0" encoding="klingon"?><score-partwise/>', "not well-formed XML"),
        ("a.xml", b"<html/>", "not a MusicXML score"),
        ("a.xml", b"<score-timewise><part-list/></score-timewise>", "the score has no notes"),
        ("a.xml", LAUGHS.encode(), "the XML declares entities; remove its <!ENTITY> lines"),
        ("a.xml", LAUGHS.encode("utf-16"), "the XML declares entities; remove its <!ENTITY> lines"),
        ("a.xml", EMPTY_SCORE.format("").encode(), "the score has no notes"),
        ("a.xml", EMPTY_SCORE.format("<backup/>").encode(), "xml2abc cannot convert it"),
        ("a.mxl", b"PK\x03\x04 cut off", "not a readable archive; export the score again"),
        ("a.pdf", b"%PDF", "not a score file (.xml, .musicxml, .mxl, .abc, .krn or MuseData)"),
        ("a.abc", b"X:1\nK:C\nabc|\nX:2\nK:C\nabc|\n", "the ABC holds several tunes"),
        ("a.abc", b"L:1/8\nK:C\nV:1\nV:1\nabc \x01|\n", "the music has control characters"),
        ("a.abc", b"L:1/8\nK:Q\nV:1\nV:1\nabc|abc|\n", "the key cannot be transposed"),
        (
            "a.abc",
            b"L:1/8\nK:C\nV:1\nV:2\nV:1\nabc|abc|\nV:2\nabc|\n",
            "the voices have unequal numbers of bars",
        ),
        ("a.abc", b"L:1/8\nK:C\nV:1\nV:1\n", "the voices cannot be cut into bars"),
    ],
)
def test_reason(tmp_path, name, content, reason):
    path = tmp_path / name
    path.write_bytes(content)
    assert refusal(path).reason == reason


def test_missing_file(tmp_path):
    assert refusal(tmp_path / "none.xml").reason == "the file cannot be read"


def test_unequal_bars_names_the_voices():
    with pytest.raises(ScoreError, match=r"V:1 2, V:2 1"):
        piece_from_abc("a", "L:1/8\nK:C\nV:1\nV:2\nV:1\nabc|abc|\nV:2\nabc|\n")


def zipped(path: Path, members: dict[str, bytes | str]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as out:
        for name, content in members.items():
            out.writestr(name, content)
    return path


def test_archive_without_a_document(tmp_path):
    path = zipped(tmp_path / "a.mxl", {"readme.txt": "none"})
    assert refusal(path).reason == "the archive holds no MusicXML document"


@pytest.mark.parametrize("container", ["", "<container>", CONTAINER.format("elsewhere.xml")])
def test_archive_with_a_poor_container_is_read_by_its_members(tmp_path, container):
    document = source.read_musicxml(DATA / "bach_bwv113_8.mxl")
    members = {"META-INF/container.xml": container, "music.musicxml": document}
    assert read_piece(zipped(tmp_path / "a.mxl", members)).bars == 14


def test_container_decides_which_document(tmp_path):
    document = source.read_musicxml(DATA / "bach_bwv113_8.mxl")
    members = {
        "aaa.xml": "<other/>",
        "META-INF/container.xml": CONTAINER.format("b/c.xml"),
        "b/c.xml": document,
    }
    assert read_piece(zipped(tmp_path / "a.mxl", members)).bars == 14


def test_zip_bomb_is_refused_in_bounded_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(archive, "MAX_SCORE_BYTES", 2**20)
    path = zipped(tmp_path / "a.mxl", {"a.xml": b" " * (64 * 2**20)})
    assert path.stat().st_size < 2**20
    tracemalloc.start()
    try:
        assert refusal(path).reason == "larger than 1 MiB; split the score"
        assert tracemalloc.get_traced_memory()[1] < 8 * 2**20
    finally:
        tracemalloc.stop()


def test_large_plain_file_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(archive, "MAX_SCORE_BYTES", 2**20)
    path = tmp_path / "a.xml"
    path.write_bytes(b"<a>" + b" " * 2**20)
    assert refusal(path).reason == "larger than 1 MiB; split the score"


def test_external_entities_and_includes_are_never_opened(tmp_path):
    (tmp_path / "secret.abc").write_text("[abc]|")
    path = tmp_path / "a.abc"
    path.write_text(f"X:1\n%%abc-include {tmp_path / 'secret.abc'}\nM:4/4\nL:1/8\nK:C\nC8|D8|\n")
    assert read_piece(path).bars == 2
    outside = (
        f'<!DOCTYPE score-partwise [<!ENTITY x SYSTEM "file://{tmp_path}/secret.abc">]><score-partwise/>'
    )
    (tmp_path / "b.xml").write_text(outside)
    assert "entities" in refusal(tmp_path / "b.xml").reason
