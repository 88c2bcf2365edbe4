"""Splits an ABC file into its tunes (ABC standard 2.1, section 2.2), and tells how a tune is laid out."""

import re
from collections import Counter

from notagen_jax.score.refusal import ScoreError

MAX_TUNES = 100_000
MAX_HEADER = 10_000

_TUNE = re.compile(r"^[ \t]*X:", re.MULTILINE)
_FILE_HEADER = re.compile(r"[ABCDFGHILMNOQRSUZmr]:|%%")
_BLANK_LINES = re.compile(r"\n[ \t]*(?:\n[ \t]*)+")
_FIELD = re.compile(r"[A-Za-z+]:|%")
_VOICE = re.compile(r"V:\S+\s*")


def split_tunes(text: str) -> dict[str, str]:
    """Return the tunes of an ABC file by `X:` number, in the file's order, each a complete ABC text.

    A tune begins at its `X:` field. The fields and instructions before the first one, the file
    header, stand for all tunes and are put before each. Where the file holds several tunes, free
    text between them is dropped: what comes after a tune's music and a blank line, unless it is
    fields and music too. A number that comes again gets `-2`, `-3`, …; text without `X:` is one
    tune without a number. Raises `ScoreError` for more tunes than `MAX_TUNES`, or a file header longer
    than `MAX_HEADER` characters.
    """
    starts = [match.start() for match in _TUNE.finditer(text)]
    if len(starts) < 2:
        return {_number(text[starts[0] :]) if starts else "": text}
    if len(starts) > MAX_TUNES:
        raise ScoreError(f"the ABC holds more than {MAX_TUNES} tunes; split the file", f"{len(starts)}")
    header = "".join(line + "\n" for line in text[: starts[0]].split("\n") if _FILE_HEADER.match(line))
    if len(header) > MAX_HEADER:
        raise ScoreError("the ABC's file header is too long", f"{len(header)} characters")
    tunes: dict[str, str] = {}
    times: Counter[str] = Counter()
    for start, end in zip(starts, [*starts[1:], len(text)], strict=True):
        first, _, rest = _without_free_text(text[start:end].strip()).partition("\n")
        number = _number(first)
        times[number] += 1
        name = number if times[number] == 1 else f"{number}-{times[number]}"
        tunes[name] = f"{first}\n{header}{rest}\n"
    return tunes


def is_voice_by_voice(text: str) -> bool:
    """Whether ABC text is laid out as xml2abc does it.

    Unit length 1/8, then a header without music, then each voice as a line `V:n` (1 first) and its music.
    """
    lines = [line for line in text.split("\n") if line.strip()]
    starts = [index for index, line in enumerate(lines) if line.strip() == "V:1"]
    if not starts:
        return False
    header, body = lines[: starts[-1]], lines[starts[-1] :]
    if "L:1/8" not in map(str.strip, header) or not all(map(_FIELD.match, header)):
        return False
    voices = [line for line in body if line.startswith("V:")]
    return len(set(voices)) == len(voices) and all(map(_VOICE.fullmatch, voices))


def _without_free_text(tune: str) -> str:
    kept: list[str] = []
    has_music = False
    for block in _BLANK_LINES.split(tune):
        lines = block.split("\n")
        if has_music and not all(_FIELD.match(line) or "|" in line for line in lines):
            break
        has_music = has_music or not all(map(_FIELD.match, lines))
        kept.append(block)
    return "\n".join(kept)


def _number(tune: str) -> str:
    """What stands after a tune's `X:`, as far as it can be part of a file name."""
    first = tune.strip().split("\n", 1)[0][2:].split("%")[0]
    return re.sub(r"[^0-9A-Za-z_]+", "-", first).strip("-")[:40] or "0"
