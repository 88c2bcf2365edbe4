"""The scores of a data set before conversion: where each is, its labels, the work it belongs to."""

import hashlib
import re
from dataclasses import dataclass, field
from pathlib import Path

from unidecode import unidecode

from notagen_jax.labels import Prompt

VALIDATION_SHARE = 0.05

# Catalogue numbers, the most telling first: Bach, Mozart, Schubert, then opus numbers.
_CATALOGUES = (
    re.compile(r"\b(bwv)[ .]*(\d+(?:\.\d+)?)"),
    re.compile(r"\b(kv?)[ .]*(\d+)"),
    re.compile(r"\b(d)[ .]*(\d{2,3})\b"),
    re.compile(r"\b(op)(?:us)?[ .]*(\d+)(?:[ ,]*no[ .]*(\d+))?"),
)


@dataclass(frozen=True)
class Work:
    """One score file: a stable `name`, its `prompt`, and `work`, the key that all its encodings share."""

    name: str
    path: Path
    prompt: Prompt
    work: str

    def __str__(self) -> str:
        return str(self.path)


@dataclass
class Listing:
    """What a source of scores offers: the labelled works, and the files left out by reason."""

    works: list[Work] = field(default_factory=list)
    left_out: dict[str, list[str]] = field(default_factory=dict)

    def leave_out(self, reason: str, file: str) -> None:
        """Note a file that is no work of this data set."""
        self.left_out.setdefault(reason, []).append(file)


def work_key(composer: str, title: str) -> str:
    """Return the key that all encodings of one work share.

    The composer with the catalogue or opus number in the title, or, without one, with the title's
    letters and digits: `"String Quartet No.1, Op.18 No.1"` and `"opus18no1"` have the same key.
    """
    composer, title = unidecode(composer).lower(), unidecode(title).lower()
    for catalogue in _CATALOGUES:
        number = catalogue.search(title)
        if number is not None:
            return f"{composer}/{' '.join(part for part in number.groups() if part)}"
    return f"{composer}/{' '.join(re.findall('[a-z0-9]+', title))}"


def split_works(works: list[Work]) -> dict[str, list[Work]]:
    """Divide works into train and validation by a hash of their work keys alone.

    So a work stays on its side when the corpus grows, and all its encodings are on one side. Where
    no key falls into the validation share, the one with the smallest hash does (unless it is the only one).
    """
    keys = {work.work for work in works}
    validation = {key for key in keys if _place(key) < VALIDATION_SHARE}
    if not validation and len(keys) > 1:
        validation = {min(keys, key=_place)}
    return {
        "train": [work for work in works if work.work not in validation],
        "validation": [work for work in works if work.work in validation],
    }


def _place(key: str) -> float:
    """A number in [0, 1) that depends on the key alone."""
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:6], "big") / 2**48
