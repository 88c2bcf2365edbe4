"""Voice-by-voice ABC lines into one line a bar: the interleaved form and the rest-reduced form."""

from dataclasses import dataclass

from notagen_jax.score.refusal import ScoreError, describe


@dataclass(frozen=True)
class Voices:
    """A tune cut into bars: the metadata lines, and for each voice its prefix, bars and bar lines.

    `bars[v]` is a list of `(text, right bar line)`, all of one length; `openings[v]` is what comes
    before voice v's first bar (inline fields, left bar line).
    """

    metadata: list[str]
    openings: dict[str, str]
    bars: dict[str, list[tuple[str, str]]]

    @property
    def bar_count(self) -> int:
        """Number of bars of every voice."""
        return len(self.bars["V:1"])


def split_voices(lines: list[str]) -> Voices:
    """Cut cleaned ABC lines into the bars of each voice.

    Raises `ScoreError` when the voices cannot be cut, or have different numbers of bars.
    """
    from abctoolkit.utils import extract_barline_and_bartext_dict

    try:
        metadata, prefixes, lefts, texts, rights = extract_barline_and_bartext_dict(lines)
        openings = {voice: prefix + lefts[voice][0] for voice, prefix in prefixes.items()}
    except Exception as error:
        # abctoolkit signals a bad tune with bare Exception; everything narrower is a subclass.
        raise ScoreError("the voices cannot be cut into bars", describe(error)) from error
    counts = {voice: len(bars) for voice, bars in texts.items()}
    if len(set(counts.values())) != 1:
        listed = ", ".join(f"{voice} {count}" for voice, count in counts.items())
        raise ScoreError("the voices have unequal numbers of bars", listed)
    bars = {voice: list(zip(texts[voice], rights[voice], strict=True)) for voice in prefixes}
    return Voices(metadata=metadata, openings=openings, bars=bars)


def interleave(voices: Voices) -> str:
    """Interleaved text: the metadata, then one line a bar with every voice's bar as `[V:n]…`."""
    return _render(voices, omit_rests=False)


def reduce_rests(voices: Voices) -> str:
    """Rest-reduced text: the interleaved form without the bars in which a voice only rests (paper §2.1)."""
    return _render(voices, omit_rests=True)


def sounds(bar: str) -> bool:
    """Whether a bar's text has a letter other than those of rests (`z Z x X`)."""
    return any(letter.isalpha() and letter not in "zZxX" for letter in bar)


def _render(voices: Voices, omit_rests: bool) -> str:
    lines = [line if line.endswith("\n") else line + "\n" for line in voices.metadata]
    for index in range(voices.bar_count):
        line = []
        for voice, bars in voices.bars.items():
            text, right = bars[index]
            if omit_rests and not sounds(text):
                continue
            opening = voices.openings[voice] if index == 0 else ""
            line.append(f"[{voice}]{opening}{text}{right}")
        lines.append("".join(line) + "\n")
    return "".join(lines)
