"""The scores of music21's corpus (no download: the package carries them), and the work each belongs to."""

import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from notagen_jax.errors import NotaGenError
from notagen_jax.score import Score
from tfds_builders.folders import Tree, named_scores, read_tree
from tfds_builders.works import work_key


class Composer(NamedTuple):
    """A composer with years of birth and death."""

    label: str
    born: int
    died: int


COMPOSERS = {
    "bach": Composer("Bach, Johann Sebastian", 1685, 1750),
    "beach": Composer("Beach, Amy", 1867, 1944),
    "beethoven": Composer("Beethoven, Ludwig van", 1770, 1827),
    "chopin": Composer("Chopin, Frederic", 1810, 1849),
    "corelli": Composer("Corelli, Arcangelo", 1653, 1713),
    "cpebach": Composer("Bach, Carl Philipp Emanuel", 1714, 1788),
    "handel": Composer("Handel, George Frideric", 1685, 1759),
    "haydn": Composer("Haydn, Joseph", 1732, 1809),
    "joplin": Composer("Joplin, Scott", 1868, 1917),
    "liliuokalani": Composer("Liliuokalani, Queen of the Hawaiian Islands", 1838, 1917),
    "monteverdi": Composer("Monteverdi, Claudio", 1567, 1643),
    "mozart": Composer("Mozart, Wolfgang Amadeus", 1756, 1791),
    "schoenberg": Composer("Schoenberg, Arnold", 1874, 1951),
    "schubert": Composer("Schubert, Franz", 1797, 1828),
    "schumann_clara": Composer("Schumann, Clara", 1819, 1896),
    "schumann_robert": Composer("Schumann, Robert", 1810, 1856),
    "verdi": Composer("Verdi, Giuseppe", 1813, 1901),
    "weber": Composer("Weber, Carl Maria von", 1786, 1826),
    "webern": Composer("Webern, Anton", 1883, 1945),
}
"""The composers of the three periods, by folder of the corpus."""

_ENCODINGS = ("mxl", "xml", "musicxml", "krn", "abc")
"""Suffixes of the corpus, the best encoding first."""

# Works that other collections hold under a title and this one under a file name.
_TITLES = {
    "schubert/Lindenbaum": "Der Lindenbaum",
    "schumann_robert/dichterliebe_no2": "Aus meinen Tranen spriessen",
    "schumann_robert/opus48no2": "Aus meinen Tranen spriessen",
}


class CorpusScore(NamedTuple):
    """A score of the corpus: its name, its folder at the top of the corpus, and its work key."""

    name: str
    folder: str
    work: str
    score: Score


def corpus_tree(corpus: Path | None = None) -> Tree:
    """The files of the corpus (music21's own folder by default). Raises `NotaGenError` without music21."""
    if corpus is None:
        spec = importlib.util.find_spec("music21")
        if spec is None or spec.origin is None:
            raise NotaGenError(
                "the music21 corpus needs music21; install it with: pip install 'notagen-jax[data]'"
            )
        corpus = Path(spec.origin).parent / "corpus"
    return read_tree(corpus)


def is_second_encoding(file: str, tree: Tree) -> bool:
    """Whether the corpus holds the score, by its name, in an encoding that is to be preferred."""
    stem, _, suffix = file.rpartition(".")
    return any(f"{stem}.{other}" in tree.scores for other in _ENCODINGS[: _ENCODINGS.index(suffix)])


def corpus_scores(file: str, path: Path) -> Iterator[CorpusScore]:
    """The scores in a file of the corpus, `file` being its path in the corpus.

    Movements that lie in a folder named after their work share its key; so do encodings of one work
    under one catalogue number.
    """
    stem = file.rsplit(".", 1)[0]
    folder, _, rest = stem.partition("/")
    composer = COMPOSERS[folder].label if folder in COMPOSERS else folder
    title = _TITLES.get(stem, rest.split("/")[0])
    for name, score in named_scores(file, path):
        yield CorpusScore(name, folder, work_key(composer, f"{title} {score.tune}"), score)
