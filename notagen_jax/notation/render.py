"""One generated piece to files that open: ABC, MusicXML, MIDI, SVG, PDF, and a verdict on its validity."""

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path

from notagen_jax.errors import NotaGenError
from notagen_jax.files import write_atomic
from notagen_jax.notation.engrave import ENGRAVED_FORMATS, Engraving, engrave
from notagen_jax.notation.musicxml import MusicXML, to_musicxml
from notagen_jax.notation.restore import bars_to_go, for_viewing, restore_rests
from notagen_jax.notation.validity import Validity, check

FORMATS = ("abc", "xml", "midi", "svg", "pdf")


@dataclass(frozen=True)
class Rendered:
    """What became of one piece.

    `files` are the files written, in order; `validity` is None when not even rests could be
    restored; `error` is the reason why a format is missing, None when all were written.
    """

    stem: str
    files: tuple[Path, ...] = ()
    validity: Validity | None = None
    error: str | None = None


@dataclass(frozen=True)
class _Head:
    """The title block: title, the line at the right (whose style) and the one at the left (period)."""

    title: str | None = None
    composer: str | None = None
    subtitle: str | None = None


@dataclass
class _Outcome:
    """Files written and reasons collected on the way through the formats."""

    files: list[Path] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    def write(self, path: Path, data: str | bytes) -> None:
        write_atomic(path, data)
        self.files.append(path)


def render_piece(
    text: str,
    out_dir: str | Path,
    stem: str,
    formats: Iterable[str] = FORMATS,
    title: str | None = None,
) -> Rendered:
    """Write a generated (reduced) or interleaved piece into `out_dir` in every one of `formats`.

    Always writes `STEM.raw.abc` (the text as given) first and `STEM.validity.json`; then `STEM.abc`
    (interleaved, for viewing), `STEM.musicxml`, `STEM.mid`, `STEM-1.svg` …, `STEM.pdf`. Outputs of an
    earlier run under that stem are removed, so that what is there belongs to this text. The title
    block takes `title`, else the prompt's instrumentation, and names the prompt's composer.

    A bad piece never raises: its reason stands in `Rendered.error`, beside all that could be
    written. Raises `NotaGenError` only for an unknown format.
    """
    wanted = list(dict.fromkeys(formats))
    unknown = [name for name in wanted if name not in FORMATS]
    if unknown:
        raise NotaGenError(f"unknown format {unknown[0]!r}: choose from {', '.join(FORMATS)}")
    out_dir = Path(out_dir)
    outcome = _Outcome()
    validity = None
    try:
        outcome.write(out_dir / f"{stem}.raw.abc", text)
        _clear(out_dir, stem)
        interleaved = restore_rests(text)
        validity = check(interleaved)
        if "abc" in wanted:
            outcome.write(out_dir / f"{stem}.abc", for_viewing(interleaved))
        warnings = _render_score(interleaved, out_dir, stem, wanted, _head(text, title), outcome)
        _write_verdict(out_dir, stem, text, validity, warnings, outcome)
    except NotaGenError as error:
        outcome.errors.append(str(error))
    reasons = "; ".join(dict.fromkeys(outcome.errors)) or None
    return Rendered(stem=stem, files=tuple(outcome.files), validity=validity, error=reasons)


def output_names(stem: str) -> list[str]:
    """The file names that `render_piece` may write under a stem, the SVG pages and the raw text apart."""
    return [f"{stem}.abc", f"{stem}.musicxml", f"{stem}.mid", f"{stem}.pdf", f"{stem}.validity.json"]


def _render_score(
    interleaved: str, out_dir: Path, stem: str, wanted: list[str], head: _Head, outcome: _Outcome
) -> tuple[str, ...]:
    """Write every format that needs MusicXML; what fails is noted. Returns the converter's warnings."""
    engraved = [name for name in ENGRAVED_FORMATS if name in wanted]
    if not engraved and "xml" not in wanted:
        return ()
    try:
        score = to_musicxml(interleaved, title=head.title, composer=head.composer)
    except NotaGenError as error:
        outcome.errors.append(str(error))
        return ()
    if "xml" in wanted:
        outcome.write(out_dir / f"{stem}.musicxml", score.document)
    engraving = _engrave(score, engraved, head, outcome)
    if engraving.midi is not None:
        outcome.write(out_dir / f"{stem}.mid", engraving.midi)
    for number, page in enumerate(engraving.svg, 1):
        outcome.write(out_dir / f"{stem}-{number}.svg", page)
    if engraving.pdf is not None:
        outcome.write(out_dir / f"{stem}.pdf", engraving.pdf)
    return score.warnings


def _engrave(score: MusicXML, formats: list[str], head: _Head, outcome: _Outcome) -> Engraving:
    """Engrave in one go; where that fails, format by format, so that one cannot take the others along."""
    engraving = Engraving(svg=(), midi=None, pdf=None)
    if not formats:
        return engraving
    for attempt in ([formats], [[name] for name in formats]):
        errors = []
        for group in attempt:
            try:
                result = engrave(score, group, head.title, head.composer, head.subtitle)
            except NotaGenError as error:
                errors.append(f"{'/'.join(group)}: {error}")
                continue
            engraving = replace(
                engraving,
                svg=result.svg or engraving.svg,
                midi=result.midi or engraving.midi,
                pdf=result.pdf or engraving.pdf,
            )
        if not errors or len(formats) == 1:
            break
    outcome.errors += errors
    return engraving


def _write_verdict(
    out_dir: Path, stem: str, text: str, validity: Validity, warnings: tuple[str, ...], outcome: _Outcome
) -> None:
    verdict = validity.to_json()
    verdict["bars_to_go"] = bars_to_go(text)
    verdict["conversion_warnings"] = list(warnings)
    verdict["errors"] = list(outcome.errors)
    outcome.write(out_dir / f"{stem}.validity.json", json.dumps(verdict, indent=1) + "\n")


def _head(text: str, title: str | None) -> _Head:
    """The title block from the prompt: the first three `%` lines are period, composer, instrumentation."""
    prompt = []
    for line in text.splitlines():
        if not line.startswith("%") or line.startswith("%%") or line.strip() == "%end":
            break
        prompt.append(line[1:].strip())
    if len(prompt) < 3:
        return _Head(title=title)
    period, composer, instrumentation = prompt[:3]
    return _Head(title=title or instrumentation, composer=f"in the style of {composer}", subtitle=period)


def _clear(out_dir: Path, stem: str) -> None:
    """Remove an earlier run's outputs of this stem."""
    page = re.compile(rf"{re.escape(stem)}-\d+\.svg")
    stale = [out_dir / name for name in output_names(stem)]
    stale += [path for path in out_dir.iterdir() if page.fullmatch(path.name)]
    for path in stale:
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise NotaGenError(f"{path}: cannot replace the earlier output ({error.strerror})") from error
