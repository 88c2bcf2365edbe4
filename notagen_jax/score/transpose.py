"""Transposition of a whole tune into the 15 keys, and its rest-reduced text there (paper §2.1).

The rules of spelling (which note, accidental and octave) are abctoolkit's. It reads the music again
for each key, character by character; here it is read once. Bars, omitted rests and, nearly always,
the accidentals to be written are the same in every key, so the reduced text is laid out once with a
gap for each note, and only the gaps are filled in key by key.
"""

from collections.abc import Iterator
from functools import cached_property

from notagen_jax.score.clean import tune_start
from notagen_jax.score.elements import BAR_LINE, CHORD_ROOT, KEY, Element, read_elements
from notagen_jax.score.interleave import reduce_rests, split_voices
from notagen_jax.score.layout import Gap, Gaps, Layout, Place
from notagen_jax.score.refusal import ScoreError
from notagen_jax.score.spelling import NoAnswer, new_chord_root, new_key, new_note, signature_of


class Transposer:
    """A tune read once, to be written in any of the 15 keys.

    `lines` is cleaned voice-by-voice ABC. Raises `ScoreError` when it has no voice 1.
    """

    def __init__(self, lines: list[str]) -> None:
        start = tune_start(lines)
        self._metadata = lines[:start]
        self._parts = list(_parts(lines[start:]))
        self._key = next((line[2:].strip() for line in self._metadata if line.startswith("K:")), "none")
        if self._key == "none":
            self._key = "C"

    def lines(self, key: str) -> list[str]:
        """Return the tune's lines with a `K:` of the same signature as `key`.

        Raises `ScoreError` when a note has no spelling in that key, or a key change is not known.
        """
        try:
            return _lines("".join(self._written(key)))
        except NoAnswer as error:
            raise ScoreError("it cannot be written in all 15 keys", f"{key}: {error}") from error

    def reduced(self, key: str) -> str:
        """Return the rest-reduced text (one line a bar) in `key`; raises `ScoreError` as `lines` does."""
        try:
            text = self._layout.filled(key) if self._layout is not None else None
        except NoAnswer as error:
            raise ScoreError("it cannot be written in all 15 keys", f"{key}: {error}") from error
        return reduce_rests(split_voices(self.lines(key))) if text is None else text

    def _written(self, key: str) -> Iterator[str]:
        for line in self._metadata:
            field = _key_field(line)
            yield f"K:{new_key(field, self._key, key)[0]}\n" if field else line
        for (symbol, _), voice in zip(self._parts, self._voices, strict=True):
            yield symbol + "\n"
            yield voice.written(self._key, key)

    @cached_property
    def _voices(self) -> list["_Voice"]:
        keys = self._voice_keys()
        return [_Voice(text, keys.get(symbol, self._key)) for symbol, text in self._parts]

    def _voice_keys(self) -> dict[str, str]:
        """The keys of the voices that have one of their own in the header (`none`: percussion)."""
        keys: dict[str, str] = {}
        symbol = ""
        for line in self._metadata:
            if line.startswith("V:"):
                symbol = line.split()[0]
                if "perc" in line[len(symbol) :]:
                    keys[symbol] = "none"
            elif line.startswith("K:") and symbol:
                keys.setdefault(symbol, line[2:].strip())
        return keys

    @cached_property
    def _layout(self) -> Layout | None:
        """The reduced text with gaps; None for a tune that leaves no letters for them."""
        gaps = Gaps()
        laid = []
        for line in self._metadata:
            field = _key_field(line)
            laid.append(f"K:{gaps.letter(Gap(Place(field, ''), KEY, field))}\n" if field else line)
        for (symbol, _), voice in zip(self._parts, self._voices, strict=True):
            laid.append(symbol + "\n")
            laid.append("".join(voice.laid_out(gaps)))
        texts = (*self._metadata, *(text for _, text in self._parts))
        if gaps.too_many or not all(map(str.isascii, texts)):
            return None
        return Layout(self._key, reduce_rests(split_voices(_lines("".join(laid)))), gaps)


def _key_field(line: str) -> str:
    """The key of a `K:` line that is transposed; '' for any other line."""
    field = line[2:].strip() if line.startswith("K:") else ""
    return "" if field == "none" else field


def _lines(text: str) -> list[str]:
    return [line + "\n" for line in text.split("\n") if line]


def _parts(body: list[str]) -> Iterator[tuple[str, str]]:
    """The voices' symbols (`V:n`) and texts; the first line of `body` is a symbol."""
    starts = [index for index, line in enumerate(body) if index == 0 or line.startswith("V:")]
    for start, end in zip(starts, [*starts[1:], len(body)], strict=True):
        yield body[start].strip(), "".join(body[start + 1 : end])


class _Voice:
    """One voice's text with the elements that a transposition rewrites, in order."""

    def __init__(self, text: str, key: str) -> None:
        self._text, self._key = text, key
        # Percussion has no key and stays as it is.
        self._elements = [] if key == "none" else read_elements(text, key)

    def laid_out(self, gaps: Gaps) -> Iterator[str]:
        """The text with each element that differs between keys as the letter of its gap."""
        index = 0
        place = Place("", "")
        letters: dict[tuple[int, str, bool], str] = {}  # of this place
        for start, end, text, kind, key, sounding, shown in self._elements:
            if kind == BAR_LINE:
                continue
            if key != place.key:
                place, letters = Place(key, self._key), {}
            what = (kind, sounding or text, shown)
            letter = letters.get(what)
            if letter is None:
                letter = letters[what] = gaps.letter(Gap(place, *what))
            yield self._text[index:start]
            yield letter
            index = end
        yield self._text[index:]

    def written(self, original: str, key: str) -> str:
        """The text after the tune has been transposed from `original` to `key`, one of `KEYS`."""
        out: list[str] = []
        target = new_key(self._key, original, key)[1] if self._elements else ""
        written: dict[str, str] = {}  # pitch without accidental -> with the one it last had in this bar
        index = 0
        for element in self._elements:
            out.append(self._text[index : element.start])
            index = element.end
            out.append(self._rewritten(element, target, written))
        out.append(self._text[index:])
        return "".join(out)

    def _rewritten(self, element: Element, target: str, written: dict[str, str]) -> str:
        if element.kind == BAR_LINE:
            written.clear()
            return element.text
        key, signature = new_key(element.key, self._key, target)
        if element.kind == KEY:
            written.clear()
            return key
        if element.kind == CHORD_ROOT:
            return new_chord_root(element.text, signature_of(element.key), signature)
        note, pitch, usual = new_note(element.sounding, signature_of(element.key), signature)
        before = written.get(pitch)
        shown = before != note if before is not None else not usual
        written[pitch] = note
        return note if shown else pitch
