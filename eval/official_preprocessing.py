"""The official pre-processing of one score, restated step by step on abctoolkit's own functions.

It is the yardstick for `notagen_jax.score`, in its texts and in its speed: as the official scripts
do, it runs the converter as a process of its own, reads the music again for each key, and writes
each reduced text anew after each of its bars.
"""

import re
import subprocess
import sys
from pathlib import Path

from abctoolkit.check import check_alignment_unrotated
from abctoolkit.convert import unidecode_abc_lines
from abctoolkit.rotate import rotate_abc
from abctoolkit.transpose import Key2index, transpose_an_abc_text
from abctoolkit.utils import (
    Barlines,
    extract_barline_and_bartext_dict,
    remove_bar_no_annotations,
    remove_information_field,
)

DROPPED = ["X:", "T:", "C:", "W:", "w:", "Z:", "%%MIDI"]


class Failed(Exception):
    """The official pipeline gives nothing for a score, and why."""


def prepare(document: Path, out: Path) -> None:
    """Write the texts of an unzipped MusicXML file below `out`, as the official scripts do.

    Raises `Failed` when they write nothing.
    """
    interleaved, by_key = preprocess(convert(document))
    path = out / "interleaved" / f"{document.stem}.abc"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(interleaved, encoding="utf-8")
    for key, text in by_key.items():
        path = out / "augmented" / key / f"{document.stem}_{key}.abc"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_bar_by_bar(path, text)


def write_bar_by_bar(path: Path, text: str) -> None:
    """Write a reduced text as the official loop does: the whole file again after each bar's line."""
    lines = text.splitlines(keepends=True)
    head = next(index for index, line in enumerate(lines) if "[V:" in line)
    for end in range(head + 1, len(lines) + 1):
        with path.open("w", encoding="utf-8") as stream:
            stream.writelines(lines[:end])


def convert(document: Path) -> str:
    """Standard output of the converter on an unzipped MusicXML file."""
    command = [sys.executable, "-m", "abctoolkit.xml2abc", "-d", "8", "-c", "6", "-x", str(document)]
    return subprocess.run(command, capture_output=True, check=True, encoding="utf-8").stdout


def preprocess(abc: str) -> tuple[str, dict[str, str]]:
    """Interleaved text, and rest-reduced text by key. Raises `Failed` where the official steps do."""
    try:
        lines = clean(abc)
        equal_bars = check_alignment_unrotated(lines)[1]
        if not equal_bars:
            raise Failed("unequal numbers of bars")
        lines = [shorten_annotations(line) for line in lines]
        interleaved = "".join(rotate_abc(list(lines)))
        return interleaved, {key: reduced(lines, key) for key in Key2index}
    except Failed:
        raise
    except Exception as error:
        # abctoolkit raises bare Exception where it can go no further; everything narrower is a subclass.
        raise Failed(f"{type(error).__name__}: {error}") from error


def clean(abc: str) -> list[str]:
    lines = [line for line in abc.splitlines(keepends=True) if line.strip()]
    lines = remove_information_field(unidecode_abc_lines(lines), DROPPED)
    lines = remove_bar_no_annotations(lines)
    for i, line in enumerate(lines):
        if not line.startswith("%") and not re.match("[A-Za-z]:", line):
            lines[i] = line.replace('\\"', "")
    for i in range(len(lines)):
        for quoted in re.findall('"[^"]*"', lines[i]):
            if any(bar_line in quoted for bar_line in Barlines):
                lines[i] = lines[i].replace(quoted, "")
    return lines


def shorten_annotations(line: str) -> str:
    for quoted in re.findall('"[^"]*"', line):
        if quoted == '""':
            line = line.replace(quoted, "")
        if quoted[1] in "^_":
            once = re.sub("([^a-zA-Z0-9])\\1+", "\\1", quoted)
            line = line.replace(quoted, "" if len(once) > 40 else once)
    return line


def reduced(lines: list[str], key: str) -> str:
    transposed = [line + "\n" for line in transpose_an_abc_text(lines, key).split("\n") if line]
    header, prefix, left, bars, right = extract_barline_and_bartext_dict(transposed)
    out = list(header)
    for i in range(len(bars["V:1"])):
        row = ""
        for voice in prefix:
            if any(letter.isalpha() for letter in re.sub("[zZxX]", "", bars[voice][i])):
                start = prefix[voice] + left[voice][0] if i == 0 else ""
                row += f"[{voice}]{start}{bars[voice][i]}{right[voice][i]}"
        out.append(row + "\n")
    return "".join(out)
