"""notagen render: every kind of input, one clear line for each failure, and an exit status that tells."""

import pytest

from notagen_jax.cli.render import Render, run
from notagen_jax.errors import NotaGenError
from notagen_jax.notation.musicxml import to_musicxml
from tests.notation_pieces import DATA, as_generated, piece


def render(tmp_path, *files, formats=("abc",), **options):
    return run(Render(files=files, out=tmp_path / "out", formats=formats, **options))


def write(path, content):
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def test_generated_interleaved_and_musicxml(tmp_path, capsys):
    generated = write(tmp_path / "first.raw.abc", as_generated(piece("reichardt_nachtlied")))
    interleaved = write(tmp_path / "second.abc", piece("hensel_nonne"))
    score = write(tmp_path / "third.musicxml", to_musicxml(piece("reichardt_nachtlied")).document)
    assert render(tmp_path, generated, interleaved, score, formats=("abc", "xml", "midi")) == 0
    printed = capsys.readouterr()
    assert printed.err == ""
    assert "3 of 3 rendered" in printed.out
    assert "10 bars, 4 voices, sound" in printed.out
    for stem in ("first", "second", "third"):
        assert {f"{stem}.abc", f"{stem}.musicxml", f"{stem}.mid"} <= {
            p.name for p in (tmp_path / "out").iterdir()
        }


def test_voice_by_voice_abc(tmp_path):
    text = "L:1/8\nM:4/4\nK:C\nV:1 treble\nV:2 bass\nV:1\n c4 d4 | e8 |]\nV:2\n C,8 | z8 |]\n"
    assert render(tmp_path, write(tmp_path / "plain.abc", text)) == 0
    assert "[V:1]" in (tmp_path / "out" / "plain.abc").read_text()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("empty.abc", b"", "the file is empty"),
        ("latin.abc", 'K:C\nV:1\n[V:1]"^tr\u00e8s"c|\n'.encode("latin-1"), "not UTF-8 text"),
        ("binary.abc", b"PK\x00\x00", "not ABC text"),
        ("prose.abc", b"Once upon a time\n", "no K: line"),
        ("cut.abc", b"[r:0/3]\n", "declares no voice"),
        ("broken.musicxml", b"<score-partwise>", "broken.musicxml"),
    ],
)
def test_a_bad_file_is_one_clear_line_and_stops_nothing(tmp_path, capsys, name, content, message):
    bad = write(tmp_path / name, content)
    good = write(tmp_path / "good.abc", piece("reichardt_nachtlied"))
    assert render(tmp_path, bad, good) == 1
    printed = capsys.readouterr()
    assert len(printed.err.splitlines()) == 1
    assert printed.err.startswith(str(bad))
    assert message in printed.err
    assert "1 of 2 rendered" in printed.out
    assert "1 failed" in printed.out
    assert (tmp_path / "out" / "good.abc").exists()


def test_missing_file(tmp_path, capsys):
    assert render(tmp_path, tmp_path / "absent.abc") == 1
    assert "absent.abc: cannot read (No such file or directory)" in capsys.readouterr().err


def test_unwritable_folder(tmp_path):
    write(tmp_path / "out", b"")
    with pytest.raises(NotaGenError, match="cannot make the output folder"):
        render(tmp_path, DATA / "notation_hensel_nonne.abc")


def test_nothing_to_do(tmp_path):
    with pytest.raises(NotaGenError, match="no files to render"):
        render(tmp_path)


def test_results_never_overwrite_a_piece(tmp_path, capsys):
    (tmp_path / "out").mkdir()
    text = piece("reichardt_nachtlied")
    inside = write(tmp_path / "out" / "song.abc", text)
    twin = write(tmp_path / "song.abc", text)
    other = write(tmp_path / "song.raw.abc", text)
    assert render(tmp_path, inside, twin, other) == 1
    errors = capsys.readouterr().err
    assert f"{inside}: its results would overwrite it" in errors
    assert f"{other}: its results would overwrite those of {twin}" in errors


def test_raw_text_can_be_rendered_again_where_it_stands(tmp_path):
    source = write(tmp_path / "song.abc", as_generated(piece("reichardt_nachtlied")))
    assert render(tmp_path, source) == 0
    first = (tmp_path / "out" / "song.abc").read_text()
    assert render(tmp_path, tmp_path / "out" / "song.raw.abc", formats=("abc", "midi")) == 0
    assert (tmp_path / "out" / "song.abc").read_text() == first
    assert (tmp_path / "out" / "song.mid").exists()
