"""Every format becomes pieces: ABC with many tunes, kern, MuseData, and MusicXML in all its wrappings."""

import builtins
import re
import sys
import zipfile
from pathlib import Path

import pytest

from notagen_jax.errors import NotaGenError
from notagen_jax.score import KEYS, Piece, Score, ScoreError, is_score, read_piece, read_pieces, scores_in
from notagen_jax.score.source import read_musicxml

DATA = Path(__file__).parent / "data"
TUNES = DATA / "three_tunes.abc"
CANON = [
    "[V:1]G2 A2 B2 G2|[V:2]z8|",
    "[V:1]G2 A2 B2 G2|[V:2]z8|",
    "[V:1]B2 c2 d4|[V:2]G,2 A,2 B,2 G,2|",
    "[V:1]B2 c2 d4|[V:2]G,2 A,2 B,2 G,2|",
    "[V:1]de dc B2 G2|[V:2]B,2 C2 D4|",
    "[V:1]de dc B2 G2|[V:2]B,2 C2 D4|",
    "[V:1]G2 D2 G4|[V:2]DE DC B,2 G,2|",
    "[V:1]G2 D2 G4|[V:2]DE DC B,2 G,2|",
]


def bars(piece: Piece) -> list[str]:
    """The lines of the body, every bar line as a plain one."""
    return [re.sub(r"\|[|\]]", "|", line) for line in piece.interleaved.splitlines() if "[V:" in line]


def test_each_tune_of_a_file_is_a_piece_and_a_bad_one_costs_itself():
    outcomes = list(read_pieces(TUNES))
    names = [outcome.name if isinstance(outcome, Piece) else str(outcome) for outcome in outcomes]
    assert names[0] == "three_tunes.1"
    assert names[1].startswith(f"{TUNES}:2: abc2xml cannot read it (misplaced symbol in ")
    assert names[2:] == ["three_tunes.3", "three_tunes.3-2"]
    frere, _, maman, buns = outcomes
    assert bars(frere)[4] == "[V:1]dedc B2 G2|"
    assert (maman.voices, maman.bars, maman.original_key) == (2, 4, "D")
    assert bars(maman)[1] == "[V:1]BB A2|[V:2]G,2 F,2|"
    assert buns.bars == 4
    assert "M:4/4\n" in buns.interleaved  # from the head of the file
    assert "M:2/4\n" in maman.interleaved  # its own


def test_tunes_are_read_one_by_one():
    scores = scores_in(TUNES)
    assert [str(score) for score in scores] == [f"{TUNES}:{tune}" for tune in ("1", "2", "3", "3-2")]
    assert read_piece(scores[0]).interleaved == next(iter(read_pieces(TUNES))).interleaved
    with pytest.raises(ScoreError, match=r"three_tunes.abc: the ABC holds several tunes \(4;"):
        read_piece(TUNES)
    with pytest.raises(ScoreError, match=r"three_tunes\.abc:9: the ABC holds no such tune"):
        read_piece(Score(TUNES, "9"))


def test_a_file_that_cannot_be_read_is_one_score(tmp_path):
    assert scores_in(tmp_path / "none.abc") == [Score(tmp_path / "none.abc")]
    assert scores_in(tmp_path / "a.mxl") == [Score(tmp_path / "a.mxl")]


def test_kern_and_musedata_of_one_canon_are_one_text():
    kern, musedata = read_piece(DATA / "frere_jacques.krn"), read_piece(DATA / "frere_jacques.md")
    assert bars(kern) == bars(musedata) == CANON
    for piece in (kern, musedata):
        assert (piece.original_key, piece.voices, piece.staves, piece.bars) == ("G", 2, 2, 8)
        assert 'V:2 bass nm="Bass"' in piece.interleaved
        assert list(piece.reduced_all()) == list(KEYS)
    assert bars(kern)[0].startswith("[V:1]G2")
    assert kern.reduced("C").splitlines()[-8] == "[V:1]c2 d2 e2 c2|"  # the resting bass is left out


def test_musedata_parts_in_an_archive(tmp_path):
    parts = (DATA / "frere_jacques.md").read_text().split("&" * 40 + "\n")[2::2]
    path = tmp_path / "canon.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("__MACOSX/._01", b"\0\1")
        archive.writestr("canon/mchan1", "Group memberships: midi\n")
        archive.writestr("canon/s01", parts[0])
        for number, part in enumerate(parts, start=1):
            archive.writestr(f"canon/{number:02d}", part)
    assert is_score(path)
    assert bars(read_piece(path)) == CANON


def test_musedata_that_changes_on_the_way(tmp_path):
    text = (DATA / "frere_jacques.md").read_text()
    path = tmp_path / "a.musedata"
    path.write_text(text.replace("measure 7\n", "measure 7\n$ K:-1 T:2/2\n").replace("\nrest ", "\nirest"))
    changed = bars(read_piece(path))
    assert changed[:6] == CANON[:6]
    assert changed[6] == "[V:1][K:F][M:2/2] G2 D2 G4|[V:2][K:F][M:2/2] DEDC =B,2 G,2|"
    path.write_text(text.replace("measure 7\n", "measure 7\n$ Q:4\n"))
    with pytest.raises(ScoreError, match="changes its unit of duration"):
        read_piece(path)


def test_what_only_has_the_name_of_musedata_is_no_score(tmp_path):
    (tmp_path / "README.md").write_text("# Scores\n\nThe first measure is\nmeasure 1 of all.\n"[:20])
    with zipfile.ZipFile(tmp_path / "backup.zip", "w") as archive:
        archive.writestr("notes.txt", "none")
    (tmp_path / "broken.zip").write_bytes(b"PK")
    (tmp_path / "folder.xml").mkdir()
    assert not any(map(is_score, tmp_path.iterdir()))
    with pytest.raises(ScoreError, match="not a MuseData score"):
        read_piece(tmp_path / "backup.zip")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda text: text[: len(text) // 2], "the Humdrum score is"),
        (lambda text: text.replace("1r\t4g", "1r", 1), "the Humdrum score is damaged"),
        (lambda text: text.replace("*-\t*-\n", ""), "the Humdrum score is cut off"),
        (lambda text: text.replace("**kern", "kern"), "not a Humdrum score"),
        (lambda text: text.replace("4g", "4z"), "music21 cannot read it"),
        (lambda text: text + "**kern\n4c\n*-\n", "the Humdrum file holds several scores; write one a file"),
        (lambda text: text.replace("**kern", "**text"), "the score has no notes"),
        (lambda text: "!! nothing\n", "not a Humdrum score"),
    ],
)
def test_a_damaged_kern_score_is_refused(tmp_path, change, reason):
    path = tmp_path / "a.krn"
    path.write_text(change((DATA / "frere_jacques.krn").read_text(encoding="utf-8")), encoding="utf-8")
    with pytest.raises(ScoreError) as caught:
        read_piece(path)
    assert caught.value.reason.startswith(reason)


def test_spines_that_split_and_join_are_whole(tmp_path):
    path = tmp_path / "a.krn"
    path.write_text("**kern\n*M2/4\n=1\n4c\n*^\n4e\t4d\n*v\t*v\n=2\n2c\n==\n*-\n")
    assert bars(read_piece(path))[1] == "[V:1]C4|[V:2]x4|"


def test_kern_without_music21_names_the_package(monkeypatch):
    real = builtins.__import__

    def no_music21(name, *arguments, **keywords):
        if name.split(".")[0] == "music21":
            raise ImportError(name)
        return real(name, *arguments, **keywords)

    for name in [name for name in sys.modules if name.split(".")[0] == "music21"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(builtins, "__import__", no_music21)
    monkeypatch.setattr("importlib.import_module", no_music21)
    with pytest.raises(NotaGenError, match="pip install music21") as caught:
        read_piece(DATA / "frere_jacques.krn")
    assert not isinstance(caught.value, ScoreError)  # ends a run: every other kern score would fail too


@pytest.fixture(scope="module")
def chorale() -> tuple[str, Piece]:
    path = DATA / "bach_bwv113_8.mxl"
    document = read_musicxml(path).decode("utf-8")
    return document[document.index("<score-partwise") :], read_piece(path)


@pytest.mark.parametrize(
    ("declared", "encoding"),
    [
        ("UTF-8", "utf-8-sig"),
        ("UTF-16", "utf-16"),
        ("UTF-16BE", "utf-16-be"),
        ("ISO-8859-1", "latin-1"),
        ("windows-1252", "cp1252"),
    ],
)
def test_encodings_of_musicxml(tmp_path, chorale, declared, encoding):
    document, piece = chorale
    document = document.replace("<part-name>", "<part-name>Hö", 1)
    path = tmp_path / "a.musicxml"
    path.write_bytes(f'<?xml version="1.0" encoding="{declared}"?>{document}'.encode(encoding))
    first, again = piece.interleaved.split('nm="', 1)
    assert read_piece(path).interleaved == f'{first}nm="Ho{again}'


@pytest.mark.parametrize(("name", "zipped"), [("a.xml", True), ("a.mxl", False)])
def test_the_content_tells_whether_it_is_zipped(tmp_path, chorale, name, zipped):
    document, piece = chorale
    content = (DATA / "bach_bwv113_8.mxl").read_bytes() if zipped else document.encode()
    (tmp_path / name).write_bytes(content)
    assert read_piece(tmp_path / name).interleaved == piece.interleaved


def test_timewise_musicxml_is_read_as_partwise(tmp_path):
    note = "<note><pitch><step>{}</step><octave>4</octave></pitch><duration>4</duration></note>"
    attributes = (
        "<attributes><divisions>1</divisions><key><fifths>0</fifths></key>"
        "<time><beats>4</beats><beat-type>4</beat-type></time></attributes>"
    )
    measures = "".join(
        f'<measure number="{number}"><part id="P1">{attributes if number == 1 else ""}{note.format(high)}'
        f'</part><part id="P2">{attributes if number == 1 else ""}{note.format(low)}</part></measure>'
        for number, (high, low) in enumerate(["EC", "FD"], start=1)
    )
    parts = "".join(f'<score-part id="P{i}"><part-name>P</part-name></score-part>' for i in (1, 2))
    path = tmp_path / "a.xml"
    path.write_text(f"<score-timewise><part-list>{parts}</part-list>{measures}</score-timewise>")
    assert bars(read_piece(path)) == ["[V:1]E8|[V:2]C8|", "[V:1]F8|[V:2]D8|"]
