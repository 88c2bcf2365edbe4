"""Every file that is no usable score is refused with one reason, in bounded memory."""

import random
import tracemalloc
import zipfile
from pathlib import Path

import pytest

from notagen_jax.errors import NotaGenError
from notagen_jax.score import ScoreError, archive, is_score, piece_from_abc, read_piece, scores_in, source

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
        ("a.xml", EMPTY_SCORE.format("é").encode("latin-1"), "not well-formed XML"),
        ("a.xml", b'<?xml version="1.0" encoding="UTF-16"?><score-partwise/>', "not well-formed XML"),
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


@pytest.mark.parametrize("suffix", [".xml", ".musicxml", ".mxl", ".abc", ".krn", ".md", ".zip"])
def test_a_file_of_200_mb_is_refused_unread(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    with path.open("wb") as stream:
        stream.truncate(200 * 10**6)  # takes no room on the disk
    tracemalloc.start()
    try:
        assert refusal(path).reason == "larger than 64 MiB; split the score"
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()
    assert [str(score) for score in scores_in(path)] == [str(path)]


def test_archives_of_archives_and_of_many_members(tmp_path):
    bomb = zipped(tmp_path / "bomb.mxl", {"a.xml": b" " * 2**20}).read_bytes()
    path = zipped(tmp_path / "nested.mxl", {"a.mxl": bomb, "b.zip": bomb})
    assert refusal(path).reason == "the archive holds no MusicXML document"
    path = zipped(tmp_path / "many.mxl", {f"{number}.xml": b"" for number in range(10_001)})
    assert refusal(path).reason == "the archive has too many members"
    many = path.rename(tmp_path / "many.zip")
    assert refusal(many).reason == "the archive has too many members"
    assert not is_score(many)


def test_a_member_that_lies_about_its_size(tmp_path):
    document = EMPTY_SCORE.format("").encode()
    content = bytearray(zipped(tmp_path / "a.mxl", {"a.xml": document}).read_bytes())
    place = content.rindex(b"PK\x01\x02") + 24  # the size in the central directory
    content[place : place + 4] = (5).to_bytes(4, "little")
    (tmp_path / "a.mxl").write_bytes(content)
    assert refusal(tmp_path / "a.mxl").reason == "not a readable archive; export the score again"


@pytest.mark.parametrize("element", ["a", "measure", "attributes", "direction"])
def test_deep_nesting(tmp_path, element):
    path = tmp_path / "a.xml"
    depth = 100_000
    path.write_text(EMPTY_SCORE.format(f"<{element}>" * depth + f"</{element}>" * depth))
    assert refusal(path).reason in ("the score has no notes", "xml2abc cannot convert it")


@pytest.mark.parametrize("suffix", [".xml", ".mxl", ".abc", ".krn", ".md", ".zip", ".musedata"])
def test_random_bytes(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    for seed in range(3):
        path.write_bytes(random.Random(seed).randbytes(2000))
        refusal(path)


@pytest.mark.parametrize("name", ["mozart_k464_opening.mxl", "mozart.xml", "frere_jacques.krn"])
def test_a_score_cut_off_anywhere_is_refused(tmp_path, name):
    if name.endswith(".xml"):
        content = source.read_musicxml(DATA / "mozart_k464_opening.mxl").rstrip()
    else:
        content = (DATA / name).read_bytes().rstrip()
    path = tmp_path / name
    for part in range(12):
        path.write_bytes(content[: len(content) * part // 12])
        refusal(path)
    path.write_bytes(content[:-1])
    refusal(path)


def test_external_entities_and_includes_are_never_opened(tmp_path):
    (tmp_path / "secret.abc").write_text("[abc]|")
    path = tmp_path / "a.abc"
    for line in ("%%abc-include", "I:abc-include", "%\x0b%%abc-include", "%\u2028I:abc-include"):
        text = f"X:1\n{line} {tmp_path / 'secret.abc'}\nM:4/4\nL:1/8\nK:C\nC8|D8|\n"
        path.write_text(text, encoding="utf-8")
        assert read_piece(path).bars == 2
    outside = (
        f'<!DOCTYPE score-partwise [<!ENTITY x SYSTEM "file://{tmp_path}/secret.abc">]><score-partwise/>'
    )
    (tmp_path / "b.xml").write_text(outside)
    assert "entities" in refusal(tmp_path / "b.xml").reason
