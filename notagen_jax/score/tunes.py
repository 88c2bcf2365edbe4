"""Splits an ABC file into its tunes (ABC standard 2.1, section 2.2)."""

import re

_TUNE = re.compile(r"^[ \t]*X:", re.MULTILINE)
_HEADER_LINE = re.compile(r"(?:[A-IL-SU-Zmr]:|%%)")


def split_tunes(text: str) -> dict[str, str]:
    """Return the tunes of an ABC file by `X:` number, in the file's order, each a complete ABC text.

    A tune begins at its `X:` field. The fields and instructions before the first one, the file
    header, stand for all tunes and are put before each. Where the file holds several tunes, a blank
    line ends one, and what stands between it and the next `X:` (free text) is dropped. A number that
    comes again gets `-2`, `-3`, …; text without `X:` is one tune without a number.
    """
    starts = [match.start() for match in _TUNE.finditer(text)]
    if len(starts) < 2:
        return {_number(text[starts[0] :]) if starts else "": text}
    header = "".join(
        line + "\n" for line in text[: starts[0]].splitlines() if _HEADER_LINE.match(line.lstrip())
    )
    tunes: dict[str, str] = {}
    for start, end in zip(starts, [*starts[1:], len(text)], strict=True):
        tune = re.split(r"\n[ \t]*\n", text[start:end].strip(), maxsplit=1)[0]
        number = name = _number(tune)
        again = 1
        while name in tunes:
            again += 1
            name = f"{number}-{again}"
        first, _, rest = tune.partition("\n")
        tunes[name] = f"{first}\n{header}{rest}\n"
    return tunes


def _number(tune: str) -> str:
    """What stands after a tune's `X:`, as far as it can be part of a file name."""
    return re.sub(r"[^0-9A-Za-z_]+", "-", tune.splitlines()[0].strip()[2:].split("%")[0]).strip("-") or "0"
