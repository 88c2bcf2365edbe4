"""`notagen render`: generated pieces and other scores to ABC, MusicXML, MIDI, SVG and PDF."""

import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from notagen_jax.cli.tune_input import read_tune
from notagen_jax.errors import NotaGenError
from notagen_jax.notation import Rendered, render_piece
from notagen_jax.notation.render import output_names

Format = Literal["abc", "xml", "midi", "svg", "pdf"]

_MUSICXML_SUFFIXES = (".musicxml", ".xml", ".mxl")


@dataclass(frozen=True)
class Render:
    """Render generated text, interleaved or plain ABC, or MusicXML into files that notation programs open."""

    files: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """Pieces to render."""

    out: Path = Path("rendered")
    """Folder for the results; each is named after its piece."""

    formats: tuple[Format, ...] = ("abc", "xml", "midi", "svg", "pdf")
    """What to write, any of: abc xml midi svg pdf."""

    title: str | None = None
    """Title above the music (default: the prompt's instrumentation, where the text has a prompt)."""


def run(options: Render) -> int:
    """Render every file; print one line for each and a summary. Returns 1 when any file failed, else 0.

    Raises `NotaGenError` when there is nothing to do or the output folder cannot be written.
    """
    if not options.files:
        raise NotaGenError("no files to render: name at least one")
    _make_folder(options.out)
    failed, taken = 0, dict[str, Path]()
    for path in options.files:
        try:
            stem = _stem(path, options.out, taken)
            result = render_piece(_read(path), options.out, stem, options.formats, options.title)
        except NotaGenError as error:
            failed += 1
            print(f"{path}: {error}" if str(path) not in str(error) else str(error), file=sys.stderr)
            continue
        failed += result.error is not None
        _report(path, result)
    done = len(options.files) - failed
    print(
        f"{done} of {len(options.files)} rendered into {options.out}"
        + (f", {failed} failed" if failed else "")
    )
    return 1 if failed else 0


def _report(path: Path, result: Rendered) -> None:
    if result.error is not None:
        print(f"{path}: {result.error}", file=sys.stderr)
        return
    verdict = ""
    if result.validity is not None:
        verdict = f", {result.validity.bars} bars, {len(result.validity.voices)} voices"
        fault = result.validity.first_fault
        verdict += f"; not sound: {fault}" if fault else ", sound"
    print(f"{path}: {len(result.files)} files{verdict}")


def _read(path: Path) -> str:
    """The piece's text in reduced or interleaved form. Raises `NotaGenError` naming the file."""
    if path.suffix.lower() in _MUSICXML_SUFFIXES:
        from notagen_jax.score.piece import read_piece

        return read_piece(path).interleaved
    text = read_tune(path)
    if "[V:" in text or "[r:" in text:
        return text
    if re.search(r"^K:", text, re.MULTILINE) is None:
        raise NotaGenError(f"{path}: not an ABC tune (no K: line)")
    from notagen_jax.score.piece import piece_from_abc

    try:
        return piece_from_abc(path.stem, text).interleaved
    except NotaGenError as error:
        raise NotaGenError(f"{path}: {error}") from error


def _stem(path: Path, out: Path, taken: dict[str, Path]) -> str:
    """The name for a file's results. Raises `NotaGenError` where they would overwrite a piece."""
    stem = path.stem.removesuffix(".raw")
    if stem in taken:
        raise NotaGenError(
            f"{path}: its results would overwrite those of {taken[stem]}; rename one of the two"
        )
    if path.exists() and path.name in output_names(stem) and path.resolve().parent == out.resolve():
        raise NotaGenError(f"{path}: its results would overwrite it; choose another --out")
    taken[stem] = path
    return stem


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise NotaGenError(f"{folder}: cannot make the output folder ({error.strerror})") from error
