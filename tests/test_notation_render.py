"""One piece to all its files; a bad piece leaves its raw text, its verdict and one clear reason."""

import json
import os

import pytest

from notagen_jax.errors import NotaGenError
from notagen_jax.notation import render, render_piece
from tests.notation_pieces import as_generated, piece


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_generated_piece_becomes_every_file(tmp_path):
    text = piece("bach_generated")
    result = render_piece(text, tmp_path / "new", "chorale")
    assert result.error is None
    assert result.validity.ok
    folder = tmp_path / "new"
    assert names(folder) == [
        "chorale-1.svg",
        "chorale.abc",
        "chorale.mid",
        "chorale.musicxml",
        "chorale.pdf",
        "chorale.raw.abc",
        "chorale.validity.json",
    ]
    assert sorted(path.name for path in result.files) == names(folder)
    assert (folder / "chorale.raw.abc").read_text() == text
    abc = (folder / "chorale.abc").read_text()
    assert abc.startswith("X:1\n%%score [ 1 | 2 | 3 | 4 ]\n")
    assert "[r:" not in abc
    svg = (folder / "chorale-1.svg").read_text()
    assert "Choral" in svg
    assert "in the style of Bach, Johann Sebastian" in svg
    assert "<work-title>Choral</work-title>" in (folder / "chorale.musicxml").read_text()
    verdict = json.loads((folder / "chorale.validity.json").read_text())
    assert (verdict["ok"], verdict["bars_to_go"], verdict["errors"]) == (True, 0, [])


def test_only_the_formats_asked_for_and_nothing_of_an_earlier_run(tmp_path):
    for name in ("song-2.svg", "song.pdf", "song.mid", "other-1.svg"):
        (tmp_path / name).write_text("old")
    result = render_piece(piece("reichardt_nachtlied"), tmp_path, "song", ("midi", "abc"), title="Nachtlied")
    assert result.error is None
    assert names(tmp_path) == ["other-1.svg", "song.abc", "song.mid", "song.raw.abc", "song.validity.json"]
    assert (tmp_path / "song.mid").read_bytes().startswith(b"MThd")


def test_misaligned_piece_is_rendered_and_its_fault_named(tmp_path):
    text = as_generated(piece("reichardt_nachtlied")).replace("[V:1]F F A A|", "[V:1]F F A|")
    result = render_piece(text, tmp_path, "song", ("xml",))
    assert result.error is None
    assert result.validity.first_fault.startswith("bar 2, voice 1: voice 1 lasts 3/8")
    assert json.loads((tmp_path / "song.validity.json").read_text())["aligned"] is False


def test_piece_that_cannot_be_converted(tmp_path):
    text = as_generated(piece("reichardt_nachtlied")).replace("[V:3][F,,F,]2 ", "[V:3][F,,F,2 ")
    result = render_piece(text, tmp_path, "song")
    assert "bar 2, voice 3: an unclosed chord" in result.error
    assert "\n" not in result.error
    assert names(tmp_path) == ["song.abc", "song.raw.abc", "song.validity.json"]
    assert json.loads((tmp_path / "song.validity.json").read_text())["errors"] == [result.error]


@pytest.mark.parametrize("text", ["", "%Baroque\n%Bach\n", "\x00\x01 garbage\n" * 5])
def test_text_that_is_no_music_keeps_its_raw_form(tmp_path, text):
    result = render_piece(text, tmp_path, "nothing")
    assert "no bars" in result.error
    assert result.validity is None
    assert names(tmp_path) == ["nothing.raw.abc"]
    assert (tmp_path / "nothing.raw.abc").read_text() == text


def test_one_failing_format_does_not_take_the_others_along(tmp_path, monkeypatch):
    whole = render.engrave

    def without_pdf(score, formats, *head):
        if "pdf" in formats:
            raise NotaGenError("no PDF: planted")
        return whole(score, formats, *head)

    monkeypatch.setattr(render, "engrave", without_pdf)
    result = render_piece(piece("reichardt_nachtlied"), tmp_path, "song")
    assert result.error == "pdf: no PDF: planted"
    assert {"song-1.svg", "song.mid", "song.musicxml"} <= set(names(tmp_path))
    assert "song.pdf" not in names(tmp_path)


def test_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    result = render_piece(piece("reichardt_nachtlied"), tmp_path / "file", "song")
    assert "cannot write" in result.error
    assert result.files == ()


def test_no_half_written_files_are_left(tmp_path, monkeypatch):
    def full_disk(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full_disk)
    result = render_piece(piece("reichardt_nachtlied"), tmp_path, "song", ("abc",))
    assert "No space left on device" in result.error
    assert names(tmp_path) == []


def test_unknown_format(tmp_path):
    with pytest.raises(NotaGenError, match="unknown format 'mp3'"):
        render_piece(piece("reichardt_nachtlied"), tmp_path, "song", ("mp3",))
    assert names(tmp_path) == []
