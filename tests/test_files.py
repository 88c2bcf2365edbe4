"""Whole-or-nothing writing, and reading that refuses clearly."""

import os
import stat
from pathlib import Path

import pytest

from notagen_jax.errors import NotaGenError
from notagen_jax.files import atomic_stream, read_text, write_atomic


def test_text_is_written_as_utf8_with_plain_line_ends(tmp_path: Path):
    write_atomic(tmp_path / "a" / "b.txt", "Händel\nBach\r\n")
    assert (tmp_path / "a" / "b.txt").read_bytes() == "Händel\nBach\r\n".encode()
    write_atomic(tmp_path / "a" / "b.txt", b"\x00\xff")
    assert (tmp_path / "a" / "b.txt").read_bytes() == b"\x00\xff"
    assert os.listdir(tmp_path / "a") == ["b.txt"]


def test_a_reader_sees_the_old_file_until_the_end(tmp_path: Path):
    path = tmp_path / "weights.pth"
    path.write_bytes(b"old")
    with atomic_stream(path) as stream:
        stream.write(b"new")
        stream.flush()
        assert path.read_bytes() == b"old"
    assert path.read_bytes() == b"new"


def write_half(path: Path, error: BaseException) -> None:
    """Write a part of a file, then fail."""
    with atomic_stream(path) as stream:
        stream.write(b"half")
        raise error


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, NotaGenError])
def test_an_error_in_the_block_passes_and_leaves_nothing(tmp_path: Path, error: type[BaseException]):
    path = tmp_path / "x.txt"
    path.write_bytes(b"old")
    with pytest.raises(error, match="mine"):
        write_half(path, error("mine"))
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["x.txt"]


def test_a_full_disk_is_told(tmp_path: Path):
    with pytest.raises(NotaGenError, match=r"x\.txt: cannot write \(No space left.*choose a folder"):
        write_half(tmp_path / "x.txt", OSError(28, "No space left on device"))
    assert os.listdir(tmp_path) == []


def test_a_target_that_cannot_be_written_is_told(tmp_path: Path):
    (tmp_path / "file").write_text("x")
    for target in (tmp_path / "file" / "below.txt", tmp_path):
        with pytest.raises(NotaGenError, match="cannot write"):
            write_atomic(target, "text")
    assert os.listdir(tmp_path) == ["file"]
    assert not [name for name in os.listdir(tmp_path.parent) if name.startswith(f".{tmp_path.name}.")]


def test_the_mode_follows_the_umask(tmp_path: Path):
    before = os.umask(0o027)
    try:
        write_atomic(tmp_path / "x.txt", "text")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "x.txt").stat().st_mode) == 0o640


def test_text_that_cannot_be_read_is_told(tmp_path: Path):
    (tmp_path / "latin.txt").write_bytes("Händel".encode("latin-1"))
    with pytest.raises(NotaGenError, match=r"latin\.txt: not UTF-8 text \(.* at byte 1\); save it again"):
        read_text(tmp_path / "latin.txt", "save it again")
    with pytest.raises(NotaGenError, match=r"nowhere\.txt: cannot read \(No such file.*\); save it again"):
        read_text(tmp_path / "nowhere.txt", "save it again")
    with pytest.raises(NotaGenError, match="cannot read"):
        read_text(tmp_path, "save it again")
