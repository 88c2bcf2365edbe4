"""One score into what a data set holds of it: the texts in 15 keys, and what decides about them."""

import importlib.metadata
from dataclasses import dataclass

from notagen_jax.errors import NotaGenError
from notagen_jax.score import KEYS, ScoreError, read_piece
from tfds_builders.instrumentation import instrumentation_of
from tfds_builders.normal_form import digest, normal_form
from tfds_builders.records import lengths, pack_texts
from tfds_builders.works import Work

FORM = 1
"""Number of the form of `Converted`; a journal of another form is not read."""

_IN_C = KEYS.index("C")


@dataclass(frozen=True, slots=True)
class Converted:
    """What is known of a converted score without its texts."""

    original_key: int
    """Index in `KEYS`."""
    bars: int
    staves: int
    instrumentation: str
    """What follows from the parts; '' where nothing does."""
    text: str
    """Digest of the reduced text in C, header included."""
    music: str
    """Digest of the normal form."""
    patches: tuple[int, ...]
    """Patches in each key."""
    characters: int
    """Of all 15 texts together."""


def convert(work: Work) -> tuple[Converted, bytes]:
    """Read a score in 15 keys: what is known of it, and its packed texts.

    Raises `ScoreError` when it is refused.
    """
    piece = read_piece(work.score)
    texts = list(piece.reduced_all().values())
    try:
        patches = lengths(texts)
    except NotaGenError as error:
        raise ScoreError("no bar with a note", str(error), str(work)) from error
    converted = Converted(
        original_key=KEYS.index(piece.original_key),
        bars=piece.bars,
        staves=piece.staves,
        instrumentation=instrumentation_of(piece.lines),
        text=digest(texts[_IN_C]),
        music=digest(normal_form(texts[_IN_C])),
        patches=tuple(patches),
        characters=sum(map(len, texts)),
    )
    return converted, pack_texts(texts, level=3)


def tools() -> str:
    """The versions that a conversion depends on; a score converted under others is converted again."""
    versions = [f"form {FORM}"]
    for package in ("notagen-jax", "abctoolkit", "music21"):
        try:
            versions.append(f"{package} {importlib.metadata.version(package)}")
        except importlib.metadata.PackageNotFoundError:
            continue
    return ", ".join(versions)
