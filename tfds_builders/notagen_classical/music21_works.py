"""The labelled classical scores of music21's corpus (no download: the package carries them)."""

import importlib.util
import re
from pathlib import Path

from notagen_jax.errors import NotaGenError
from notagen_jax.labels import Prompt, period_of
from notagen_jax.score.source import MUSICXML_SUFFIXES
from tfds_builders.notagen_classical.works import Listing, Work, work_key

# Folder of the corpus: composer, birth, death.
_COMPOSERS = {
    "bach": ("Bach, Johann Sebastian", 1685, 1750),
    "beach": ("Beach, Amy", 1867, 1944),
    "beethoven": ("Beethoven, Ludwig van", 1770, 1827),
    "chopin": ("Chopin, Frederic", 1810, 1849),
    "corelli": ("Corelli, Arcangelo", 1653, 1713),
    "cpebach": ("Bach, Carl Philipp Emanuel", 1714, 1788),
    "handel": ("Handel, George Frideric", 1685, 1759),
    "haydn": ("Haydn, Joseph", 1732, 1809),
    "monteverdi": ("Monteverdi, Claudio", 1567, 1643),
    "mozart": ("Mozart, Wolfgang Amadeus", 1756, 1791),
    "schoenberg": ("Schoenberg, Arnold", 1874, 1951),
    "schubert": ("Schubert, Franz", 1797, 1828),
    "schumann_clara": ("Schumann, Clara", 1819, 1896),
    "schumann_robert": ("Schumann, Robert", 1810, 1856),
    "weber": ("Weber, Carl Maria von", 1786, 1826),
    "webern": ("Webern, Anton", 1883, 1945),
}

# First match wins. The corpus does not say what a piece is written for: most of its parts have no names.
_INSTRUMENTATIONS = (
    (r"bach/bwv846$", "Keyboard"),
    (r"bach/|beach/|monteverdi/", "Choral"),
    (r"chopin/|cpebach/|schoenberg/|mozart/k545|schumann_clara/polonaise", "Keyboard"),
    (r"handel/|schubert/|schumann_robert/(dichterliebe|opus48)", "Art Song"),
    (r"beethoven/|corelli/|haydn/|mozart/|schumann_clara/|schumann_robert/|weber/|webern/", "Chamber"),
)

# Works that other collections hold under a title and this one under a file name.
_TITLES = {
    "schubert/Lindenbaum": "Der Lindenbaum",
    "schumann_robert/dichterliebe_no2": "Aus meinen Tranen spriessen",
    "schumann_robert/opus48no2": "Aus meinen Tranen spriessen",
}


def music21_works(corpus: Path | None = None) -> Listing:
    """List the corpus (music21's own folder by default). Raises `NotaGenError` without music21."""
    corpus = corpus or _installed_corpus()
    listing = Listing()
    scores = (
        path for path in corpus.rglob("*") if path.suffix.lower() in (*MUSICXML_SUFFIXES, ".krn", ".abc")
    )
    for path in sorted(scores):
        name = path.relative_to(corpus).with_suffix("").as_posix()
        file = path.relative_to(corpus).as_posix()
        folder = name.split("/")[0]
        if folder not in _COMPOSERS:
            listing.leave_out("no composer of the three periods", file)
        elif path.suffix.lower() not in MUSICXML_SUFFIXES:
            listing.leave_out("not MusicXML", file)
        else:
            listing.works.append(_work(file, name, folder, path))
    return listing


def _work(file: str, name: str, folder: str, path: Path) -> Work:
    composer, born, died = _COMPOSERS[folder]
    period = period_of(composer, born, died)
    instrumentation = next(label for pattern, label in _INSTRUMENTATIONS if re.match(pattern, name))
    if period is None:
        raise NotaGenError(f"{composer} ({born}-{died}) belongs to none of the three periods")
    # Movements lie in a folder named after their work, other pieces beside each other.
    title = _TITLES.get(name, name.split("/")[1])
    return Work(file, path, Prompt(period, composer, instrumentation), work_key(composer, title))


def _installed_corpus() -> Path:
    spec = importlib.util.find_spec("music21")
    if spec is None or spec.origin is None:
        raise NotaGenError(
            "the music21 corpus needs music21; install it with: pip install 'notagen-jax[data]'"
        )
    return Path(spec.origin).parent / "corpus"
