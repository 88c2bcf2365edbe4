"""Both text forms are byte-equal to the official pipeline's, and exist where that fails on a good score."""

import zipfile
from pathlib import Path

import pytest

from eval import official_preprocessing
from notagen_jax.score import KEYS, read_piece
from notagen_jax.score.interleave import sounds
from notagen_jax.score.source import read_musicxml

DATA = Path(__file__).parent / "data"
GOOD = ["bach_bwv113_8", "brahms_ich_schleich", "duchambge_ronde", "mozart_k464_opening"]


def unzipped(name: str, folder: Path) -> Path:
    with zipfile.ZipFile(DATA / f"{name}.mxl") as archive:
        scores = [member for member in archive.namelist() if not member.startswith("META-INF")]
        (score,) = [member for member in scores if member.endswith("xml")]
        document = folder / f"{name}.xml"
        document.write_bytes(archive.read(score))
    return document


@pytest.mark.parametrize("name", GOOD)
def test_all_texts_equal_the_official_ones(name, tmp_path, capfd):
    interleaved, by_key = official_preprocessing.preprocess(
        official_preprocessing.convert(unzipped(name, tmp_path))
    )
    capfd.readouterr()
    piece = read_piece(DATA / f"{name}.mxl")
    assert piece.interleaved == interleaved
    assert list(by_key) == list(KEYS)
    assert piece.reduced_all() == by_key
    printed = capfd.readouterr()
    assert printed.out == printed.err == ""


@pytest.mark.parametrize("name", ["bach_bwv113_8", "mozart_k464_opening"])
def test_archive_with_a_musicxml_root_is_read(name):
    with zipfile.ZipFile(DATA / f"{name}.mxl") as archive:
        assert any(member.endswith(".musicxml") for member in archive.namelist())
    # The converter by itself ends without a word and without music on such an archive.
    assert official_preprocessing.convert(DATA / f"{name}.mxl") == ""
    assert read_piece(DATA / f"{name}.mxl").bars > 0


def test_lyric_with_a_line_break_is_no_music(tmp_path):
    abc = official_preprocessing.convert(unzipped("hensel_sehnsucht", tmp_path))
    with pytest.raises(official_preprocessing.Failed, match="unequal"):
        official_preprocessing.preprocess(abc)
    piece = read_piece(DATA / "hensel_sehnsucht.mxl")
    assert (piece.bars, piece.voices, piece.original_key) == (17, 6, "D")


def test_marks_on_a_staff_without_notes_are_kept(tmp_path):
    assert official_preprocessing.convert(unzipped("brahms_ich_schell", tmp_path)) == ""
    piece = read_piece(DATA / "brahms_ich_schell.mxl")
    assert piece.bars == 47
    assert "[V:2][D,F,B,]8!>)!" in piece.interleaved


def test_shape_of_the_two_forms():
    piece = read_piece(DATA / "brahms_ich_schleich.mxl")
    rows = [line for line in piece.interleaved.splitlines() if line.startswith("[V:")]
    assert len(rows) == piece.bars == 24
    assert all(row.count("[V:") == piece.voices for row in rows)
    header, _, body = piece.reduced("F").partition("[V:")
    assert header.startswith("%%score")
    assert body.count("[V:") < piece.bars * piece.voices - 1  # rests were left out
    assert piece.staves == 3


def test_original_key_is_the_signature():
    assert read_piece(DATA / "bach_bwv113_8.mxl").original_key == "D"  # in B minor
    assert "K:Bmin" in read_piece(DATA / "bach_bwv113_8.mxl").interleaved


@pytest.mark.parametrize(
    ("bar", "expected"), [(" z4 ", False), ("x8", False), ("Z", False), (" z2 c2", True), ("[K:G] z4", True)]
)
def test_a_bar_sounds_when_it_has_another_letter_than_rests(bar, expected):
    assert sounds(bar) is expected


def test_plain_xml_and_musicxml_are_read_alike(tmp_path):
    document = read_musicxml(DATA / "bach_bwv113_8.mxl")
    for name in ("a.xml", "a.musicxml", "A.XML"):
        (tmp_path / name).write_bytes(document)
        assert read_piece(tmp_path / name).interleaved == read_piece(DATA / "bach_bwv113_8.mxl").interleaved
