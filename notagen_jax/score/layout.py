"""A text with gaps for what differs from key to key, and the filling in of one key."""

import re
from typing import NamedTuple

from notagen_jax.score.elements import CHORD_ROOT, KEY, NOTE
from notagen_jax.score.spelling import in_key, new_chord_root, new_key, new_note, signature_of, split_note

# Each gap stands in the text as one letter of its own: a letter, because a bar with one sounds.
_FIRST_LETTER, _LAST_LETTER = 0x4E00, 0x9FFF
_LETTER = re.compile(f"([{chr(_FIRST_LETTER)}-{chr(_LAST_LETTER)}])")


class Gap(NamedTuple):
    """What determines an element's text in every key."""

    place: "Place"
    kind: int
    text: str
    """For a note with its sounding accidental."""
    shown: bool = False


class Place(NamedTuple):
    """The keys (`K:` values) on which a transposition depends."""

    key: str
    """In force here."""
    voice_key: str
    """Of the voice at its beginning; '' for the tune's own."""


class Gaps:
    """The gaps of a tune, each with its letter."""

    def __init__(self) -> None:
        self.letters: dict[Gap, str] = {}

    def letter(self, gap: Gap) -> str:
        """The letter of a gap, the same for the same gap."""
        new = chr(min(_FIRST_LETTER + len(self.letters), _LAST_LETTER))
        return self.letters.setdefault(gap, new)

    @property
    def too_many(self) -> bool:
        """Whether there are more gaps than letters."""
        return len(self.letters) > _LAST_LETTER - _FIRST_LETTER


class Layout:
    """The reduced text of a tune in `key` with the letters of `gaps` in the gaps' places."""

    def __init__(self, key: str, text: str, gaps: Gaps) -> None:
        self._key, self._parts = key, _LETTER.split(text)
        self._letters = self._parts[1::2]
        by_place: dict[Place, list[tuple[Gap, str]]] = {}
        for gap, letter in gaps.letters.items():
            by_place.setdefault(gap.place, []).append((gap, letter))
        self._gaps = {place: _GapsOfPlace(place, here) for place, here in by_place.items()}

    def filled(self, key: str) -> str | None:
        """The text in `key`; None when other accidentals are to be written there than in the tune's own.

        Raises `NoAnswer` when a gap cannot be filled.
        """
        texts: dict[str, str] = {}
        for place, gaps in self._gaps.items():
            voice_target = new_key(place.voice_key, self._key, key)[1] if place.voice_key else key
            if not gaps.fill(texts, *new_key(place.key, place.voice_key or self._key, voice_target)):
                return None
        parts = self._parts.copy()
        parts[1::2] = [texts[letter] for letter in self._letters]
        return "".join(parts)


class _GapsOfPlace:
    """The gaps of one place; they are all spelled from one signature to another.

    The accidentals to be written are the same in both when pitches go to pitches one to one, notes
    to notes one to one, and exactly the notes that agree with the first signature agree with the
    second: whether an accidental is written depends on nothing else.
    """

    def __init__(self, place: Place, gaps: list[tuple[Gap, str]]) -> None:
        self._place = place
        self._keys = [letter for gap, letter in gaps if gap.kind == KEY]
        self._roots = [(letter, gap.text) for gap, letter in gaps if gap.kind == CHORD_ROOT]
        notes = [(letter, gap.text, gap.shown) for gap, letter in gaps if gap.kind == NOTE]
        self._notes = list(dict.fromkeys(sounding for _, sounding, _ in notes))
        index = {sounding: number for number, sounding in enumerate(self._notes)}
        self._shown = [(letter, index[sounding]) for letter, sounding, shown in notes if shown]
        self._hidden = [(letter, index[sounding]) for letter, sounding, shown in notes if not shown]
        self._split = [split_note(note) for note in self._notes]
        self._pitches = [pitch for _, pitch in self._split]

    def fill(self, texts: dict[str, str], key: str, signature: str) -> bool:
        """Put the texts of the gaps where `key` takes the place's key's place; False if accidentals differ.

        Raises `NoAnswer`.
        """
        for letter in self._keys:
            texts[letter] = key
        if not self._notes and not self._roots:
            return True
        original = signature_of(self._place.key)
        for letter, root in self._roots:
            texts[letter] = new_chord_root(root, original, signature)
        spelled = [new_note(note, original, signature) for note in self._notes]
        notes = [note for note, _, _ in spelled]
        pitches = [pitch for _, pitch, _ in spelled]
        usual = [accidental == in_key(original, pitch) for accidental, pitch in self._split]
        if (
            len(set(notes)) != len(notes)
            or len(set(zip(self._pitches, pitches, strict=True))) != len(set(self._pitches))
            or len(set(pitches)) != len(set(self._pitches))
            or [agrees for _, _, agrees in spelled] != usual
        ):
            return False
        for letter, number in self._shown:
            texts[letter] = notes[number]
        for letter, number in self._hidden:
            texts[letter] = pitches[number]
        return True
