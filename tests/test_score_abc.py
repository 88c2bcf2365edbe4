"""ABC files of any layout become pieces."""

from pathlib import Path

import pytest

from notagen_jax.score import KEYS, piece_from_abc, read_piece

DATA = Path(__file__).parent / "data"
JIG = "X:1\nT:A jig\nM:6/8\nL:1/8\nK:D\n|:d2f afd|g2b d'bg|1 faf gec|d3 z3:|2 faf gec|d6|]\n"


@pytest.mark.parametrize(
    "name", ["bach_bwv113_8", "brahms_ich_schleich", "duchambge_ronde", "hensel_sehnsucht"]
)
def test_an_interleaved_text_comes_back_as_it_was(name):
    piece = read_piece(DATA / f"{name}.mxl")
    again = piece_from_abc(name, "X:1\n" + piece.interleaved)
    assert again.interleaved == piece.interleaved
    assert again.reduced_all() == piece.reduced_all()


def test_single_voice_tune_without_a_voice_field(tmp_path):
    path = tmp_path / "jig.abc"
    path.write_text(JIG)
    piece = read_piece(path)
    assert (piece.name, piece.bars, piece.voices, piece.staves, piece.original_key) == ("jig", 6, 1, 1, "D")
    assert piece.interleaved.splitlines()[-6] == "[V:1]|:d2 f afd|"
    assert piece.reduced("C").splitlines()[-6] == "[V:1]|:c2 e gec|"
    assert list(piece.reduced_all()) == list(KEYS)


def test_windows_line_ends_and_latin_1(tmp_path):
    path = tmp_path / "jig.abc"
    path.write_bytes(JIG.replace("A jig", "Gigue à deux").replace("\n", "\r\n").encode("latin-1"))
    assert read_piece(path).interleaved == piece_from_abc("jig", JIG).interleaved


def test_voice_by_voice_text_is_read_as_it_is():
    text = 'X:1\nL:1/8\nM:4/4\nK:C\nV:1 treble nm="Flöte"\nV:1\n"^a -- b"c8 | d8 |] %2\n'
    piece = piece_from_abc("a", text)
    assert piece.interleaved == 'L:1/8\nM:4/4\nK:C\nV:1 treble nm="Flote"\n[V:1]"^a - b"c8|\n[V:1]d8|]\n'


@pytest.mark.parametrize(
    ("music", "cleaned"),
    [
        (r'"^say \"no\""c8', '"^say no"c8'),
        ('"^a|b"c8', "c8"),
        ('"^....."c8', '"^."c8'),
        ('"^' + "long " * 9 + '"c8', "c8"),
        ('"C"c8', '"C"c8'),
        ('""c8', "c8"),
        ("c8", "c8"),
    ],
)
def test_quoted_text_is_cleaned(music, cleaned):
    piece = piece_from_abc("a", f"L:1/8\nK:C\nV:1 treble\nV:1\n{music} | d8 |] %2\n")
    assert piece.interleaved.splitlines()[-2] == f"[V:1]{cleaned}|"
