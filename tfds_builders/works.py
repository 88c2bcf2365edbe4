"""The scores of a data set before conversion: where each is, its labels, the work it belongs to."""

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass, field

from unidecode import unidecode

from notagen_jax.score import Score

VALIDATION_SHARE = 0.05

# Catalogue numbers, the most telling first: Bach, Mozart, Schubert, then opus numbers.
_CATALOGUES = (
    re.compile(r"\b(bwv)[ .]*(\d+(?:\.\d+)?)"),
    re.compile(r"\b(kv?)[ .]*(\d+)"),
    re.compile(r"\b(d)[ .]*(\d{2,3})\b"),
    re.compile(r"\b(op)(?:us)?[ .]*(\d+)(?:[ ,]*no[ .]*(\d+))?"),
)


@dataclass(frozen=True, slots=True)
class Work:
    """One score to build from."""

    name: str
    """Stable and unique: the file's path in its collection, with `:tune` where the file holds several."""
    score: Score
    work: str
    """The key that all encodings of one work share; they stand on one side of the split."""
    composer: str = ""
    period: str = ""
    """Labels, '' where the source does not say."""
    instrumentations: tuple[str, ...] = ()
    """The labels that the source allows: the one that follows from the parts if it is among them, else
    the first. One label is what the source says; none leaves it to the parts."""

    def instrumentation(self, from_parts: str) -> str:
        """The label, given the one that follows from the parts ('' if none does); '' where there is none."""
        if from_parts in self.instrumentations or not self.instrumentations:
            return from_parts
        return self.instrumentations[0]

    def __str__(self) -> str:
        return str(self.score)


@dataclass
class Listing:
    """What a source offers: the works, the scores left out by reason, and what is no score at all."""

    works: list[Work] = field(default_factory=list)
    left_out: dict[str, list[str]] = field(default_factory=dict)
    other_files: list[str] = field(default_factory=list)
    """Files that are no scores."""

    def leave_out(self, reason: str, name: str) -> None:
        """Note a score that is not of this data set."""
        self.left_out.setdefault(reason, []).append(name)


def work_key(composer: str, title: str) -> str:
    """Return the key that all encodings of one work share.

    The composer with the catalogue or opus number in the title, or, without one, with the title's
    letters and digits: `"String Quartet No.1, Op.18 No.1"` and `"opus18no1"` have the same key.
    """
    composer, title = unidecode(composer).lower(), unidecode(title).lower().replace("'", "")
    for catalogue in _CATALOGUES:
        number = catalogue.search(title)
        if number is not None:
            return f"{composer}/{' '.join(part for part in number.groups() if part)}"
    return f"{composer}/{' '.join(re.findall('[a-z0-9]+', title))}"


def held_out_keys(keys: Iterable[str]) -> set[str]:
    """The work keys of the validation split, chosen by a hash of each key alone.

    So a work stays on its side when the corpus grows, and all its encodings are on one side. Where
    no key falls into the validation share, the one with the smallest hash does (unless it is the only one).
    """
    keys = set(keys)
    held_out = {key for key in keys if _place(key) < VALIDATION_SHARE}
    if not held_out and len(keys) > 1:
        held_out = {min(keys, key=_place)}
    return held_out


def _place(key: str) -> float:
    """A number in [0, 1) that depends on the key alone."""
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:6], "big") / 2**48
