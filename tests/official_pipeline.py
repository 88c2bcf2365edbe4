"""The official pre-processing of one score, restated step by step on abctoolkit's own functions.

It is the yardstick for `notagen_jax.score`: it runs the converter as a process of its own and reads
the music again for each key, as the official scripts do.
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


def convert(document: Path) -> str:
    """Standard output of the converter on an unzipped MusicXML file."""
    command = [sys.executable, "-m", "abctoolkit.xml2abc", "-d", "8", "-c", "6", "-x", str(document)]
    return subprocess.run(command, capture_output=True, check=True, encoding="utf-8").stdout


def preprocess(abc: str) -> tuple[str, dict[str, str]]:
    """Interleaved text, and rest-reduced text by key; raises AssertionError for unequal bar counts."""
    lines = clean(abc)
    equal_bars = check_alignment_unrotated(lines)[1]
    assert equal_bars, "unequal numbers of bars"
    lines = [shorten_annotations(line) for line in lines]
    interleaved = "".join(rotate_abc(list(lines)))
    return interleaved, {key: reduced(lines, key) for key in Key2index}


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
