"""Which converted scores a data set keeps, on which side of its split and in which order.

Every decision depends on the scores alone, not on who converted them or when: a build on one machine
and one on many choose the same.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

from notagen_jax.errors import NotaGenError
from notagen_jax.labels import Prompt
from tfds_builders.account import Account
from tfds_builders.journal import Entry
from tfds_builders.records import prompt_patches
from tfds_builders.works import Listing, Work, held_out_keys

SPLITS = ("train", "validation")


@dataclass(frozen=True)
class Rules:
    """What a data set asks of a score."""

    least_bars: int = 0
    most_staves: int = 0
    """0: any number."""
    labelled: bool = False
    """Whether a score needs a period, a composer and an instrumentation."""


@dataclass(frozen=True, slots=True)
class Kept:
    """A piece of the data set: its labels ('' without), and where its texts are."""

    name: str
    period: str
    composer: str
    instrumentation: str
    entry: Entry

    @property
    def prompt_patches(self) -> int:
        """Patches of its prompt lines; 0 without labels."""
        return prompt_patches(self.period, self.composer, self.instrumentation)


def select(
    listing: Listing, entries: Mapping[str, Entry], rules: Rules
) -> tuple[dict[str, list[Kept]], Account]:
    """The pieces of each split in the order of their rows, and the account of all scores.

    Of scores with the same text or the same music the one whose name sorts first is kept. The order
    is that of a hash of the names.
    """
    account = Account(
        found=len(listing.works) + sum(map(len, listing.left_out.values())),
        dropped={reason: list(names) for reason, names in listing.left_out.items()},
        other_files=list(listing.other_files),
    )
    kept: dict[str, list[Kept]] = {split: [] for split in SPLITS}
    sides: dict[str, str] = {}
    texts: dict[str, str] = {}
    music: dict[str, str] = {}
    pieces: list[Kept] = []
    for work in sorted(listing.works, key=lambda work: work.name):
        piece = _kept(work, entries[work.name], rules, account)
        if piece is None or piece.entry.converted is None:
            continue
        converted = piece.entry.converted
        same_text = texts.setdefault(converted.text, work.name)
        same_music = music.setdefault(converted.music, work.name)
        if same_text != work.name:
            account.drop("exact copy of another score", work.name, same_text)
        elif same_music != work.name:
            account.drop("same music as another score", work.name, same_music)
        else:
            pieces.append(piece)
            sides[work.name] = work.work
    held_out = held_out_keys(sides.values())
    for piece in sorted(pieces, key=lambda piece: hashlib.sha256(piece.name.encode()).digest()):
        kept["validation" if sides[piece.name] in held_out else "train"].append(piece)
    account.kept = {split: len(side) for split, side in kept.items()}
    return kept, account


def _kept(work: Work, entry: Entry, rules: Rules, account: Account) -> Kept | None:
    """The piece, if the rules take it; else its drop is in the account."""
    converted = entry.converted
    if converted is None:
        account.drop(entry.reason, work.name, entry.detail)
        return None
    if converted.bars < rules.least_bars:
        account.drop(f"fewer than {rules.least_bars} bars", work.name, f"{converted.bars}")
        return None
    if rules.most_staves and converted.staves > rules.most_staves:
        account.drop(f"more than {rules.most_staves} staves", work.name, f"{converted.staves}")
        return None
    if not rules.labelled:
        return Kept(work.name, "", "", "", entry)
    instrumentation = work.instrumentation(converted.instrumentation)
    if not instrumentation:
        account.drop("no instrumentation is given, and none follows from the parts", work.name)
        return None
    try:
        prompt = Prompt(work.period, work.composer, instrumentation)
    except NotaGenError as error:
        account.drop("a label is empty, or is not plain ASCII", work.name, str(error))
        return None
    return Kept(work.name, prompt.period, prompt.composer, prompt.instrumentation, entry)
