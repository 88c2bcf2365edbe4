"""Damages real scores at random, the same way for the same seed and number."""

import io
import random
import re
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

from notagen_jax.score.source import MUSICXML_SUFFIXES, read_musicxml

NUMBERS = ("0", "1", "-1", "2", "7", "64", "1000", "99999", "4294967296", "1e9", "1.5", "", "x", "٣")
SIGNS = "[](){}|:\"'!^_=<>/,%&~$*+-.\\`0123456789abcdefgABCDEFGzZxXKLMQVT \t\n\0\x0b\x7fé\ufeff"


@dataclass(frozen=True)
class Mutant:
    """A damaged score: the file it came from, how it was damaged, and the new file's suffix and content."""

    source: str
    changes: tuple[str, ...]
    suffix: str
    content: bytes


def mutate(sources: list[Path], seed: int, number: int) -> Mutant:
    """Damage one of `sources` in one to eight ways; a pure function of its arguments and the files."""
    chance = random.Random(f"{seed}/{number}")
    source = chance.choice(sources)
    times = chance.choice((1, 1, 1, 2, 3, 8))
    suffix = source.suffix.lower()
    if suffix not in MUSICXML_SUFFIXES:
        content = source.read_bytes()
        ways = (*BYTES, *LINES, *LINES)
    elif chance.random() < 0.7:
        return _mutate_elements(source, chance, times)
    else:
        content = source.read_bytes() if chance.random() < 0.3 else read_musicxml(source)
        suffix = suffix if content.startswith(b"PK") else chance.choice((".xml", ".musicxml"))
        ways = BYTES
    changes = []
    for _ in range(times):
        way = chance.choice(ways)
        content = way(content, chance)
        changes.append(way.__name__)
    return Mutant(source.name, tuple(changes), suffix, content)


def _mutate_elements(source: Path, chance: random.Random, times: int) -> Mutant:
    root = ElementTree.fromstring(read_musicxml(source))
    changes = []
    for _ in range(times):
        way = chance.choice(ELEMENTS)
        way(root, chance)
        changes.append(way.__name__)
    encoding = chance.choice(("utf-8", "utf-8", "utf-8", "utf-16", "iso-8859-1"))
    content = ElementTree.tostring(root, encoding, xml_declaration=True)
    if chance.random() < 0.2:
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
            name = chance.choice(("score.xml", "a/b.musicxml", "META-INF/x.xml"))
            archive.writestr(zipfile.ZipInfo(name), content)  # its date is fixed
        return Mutant(source.name, (*changes, "zip"), ".mxl", packed.getvalue())
    return Mutant(source.name, tuple(changes), ".xml", content)


def _span(length: int, chance: random.Random) -> tuple[int, int]:
    start = chance.randrange(length + 1)
    return start, min(length, start + int(2 ** chance.uniform(0, 12)))


def cut(content: bytes, chance: random.Random) -> bytes:
    """Cut the end off."""
    return content[: chance.randrange(len(content) + 1)]


def flip(content: bytes, chance: random.Random) -> bytes:
    """Change up to 16 bytes."""
    changed = bytearray(content)
    for _ in range(chance.randint(1, 16)):
        if changed:
            changed[chance.randrange(len(changed))] = chance.randrange(256)
    return bytes(changed)


def delete_span(content: bytes, chance: random.Random) -> bytes:
    """Take a stretch out."""
    start, end = _span(len(content), chance)
    return content[:start] + content[end:]


def double_span(content: bytes, chance: random.Random) -> bytes:
    """Write a stretch twice, or many times."""
    start, end = _span(len(content), chance)
    return content[:end] + content[start:end] * chance.choice((1, 1, 1, 50)) + content[end:]


def insert_noise(content: bytes, chance: random.Random) -> bytes:
    """Write random signs somewhere."""
    place = chance.randrange(len(content) + 1)
    noise = "".join(chance.choice(SIGNS) for _ in range(chance.randint(1, 40)))
    return content[:place] + noise.encode() + content[place:]


def change_number(content: bytes, chance: random.Random) -> bytes:
    """Write another number in place of one."""
    found = list(re.finditer(rb"\d+", content))
    if not found:
        return content
    match = chance.choice(found)
    return content[: match.start()] + chance.choice(NUMBERS).encode() + content[match.end() :]


def _lines(change: Callable[[list[bytes], int, random.Random], None]) -> Callable[..., bytes]:
    def way(content: bytes, chance: random.Random) -> bytes:
        lines = content.split(b"\n")
        change(lines, chance.randrange(len(lines)), chance)
        return b"\n".join(lines)

    way.__name__ = change.__name__
    return way


def delete_line(lines: list[bytes], index: int, chance: random.Random) -> None:
    """Take a line out."""
    del lines[index]


def double_line(lines: list[bytes], index: int, chance: random.Random) -> None:
    """Write a line twice, or many times."""
    lines[index:index] = [lines[index]] * chance.choice((1, 1, 40))


def swap_lines(lines: list[bytes], index: int, chance: random.Random) -> None:
    """Change the places of two lines."""
    other = chance.randrange(len(lines))
    lines[index], lines[other] = lines[other], lines[index]


def cut_line(lines: list[bytes], index: int, chance: random.Random) -> None:
    """Cut the end off a line."""
    lines[index] = lines[index][: chance.randrange(len(lines[index]) + 1)]


def sign_in_line(lines: list[bytes], index: int, chance: random.Random) -> None:
    """Put one sign in place of another."""
    place = chance.randrange(len(lines[index]) + 1)
    sign = chance.choice(SIGNS).encode()
    lines[index] = lines[index][:place] + sign + lines[index][place + 1 :]


def _any(root: Element, chance: random.Random) -> tuple[Element, Element]:
    """A random element and its parent."""
    pairs = [(parent, child) for parent in root.iter() for child in parent]
    return chance.choice(pairs) if pairs else (root, root)


def delete_element(root: Element, chance: random.Random) -> None:
    """Take an element out."""
    parent, child = _any(root, chance)
    if child is not root:
        parent.remove(child)


def double_element(root: Element, chance: random.Random) -> None:
    """Write an element twice, or many times."""
    parent, child = _any(root, chance)
    if child is not root:
        for _ in range(chance.choice((1, 1, 1, 100)) if len(child) < 30 else 1):
            parent.insert(chance.randrange(len(parent) + 1), child)


def swap_elements(root: Element, chance: random.Random) -> None:
    """Change the places of two elements beside each other."""
    parent, _ = _any(root, chance)
    if len(parent) > 1:
        index = chance.randrange(len(parent) - 1)
        parent[index], parent[index + 1] = parent[index + 1], parent[index]


def move_element(root: Element, chance: random.Random) -> None:
    """Put an element into another one."""
    parent, child = _any(root, chance)
    inside = set(child.iter())
    targets = [element for element in root.iter() if element not in inside]
    if child is not root and targets:
        parent.remove(child)
        target = chance.choice(targets)
        target.insert(chance.randrange(len(target) + 1), child)


def change_text(root: Element, chance: random.Random) -> None:
    """Give an element another text: a number, or signs."""
    _, child = _any(root, chance)
    child.text = chance.choice(NUMBERS) if chance.random() < 0.7 else _legal_signs(chance)


def change_number_text(root: Element, chance: random.Random) -> None:
    """Give an element that holds a number another number."""
    numbers = [element for element in root.iter() if (element.text or "").strip().lstrip("-").isdigit()]
    if numbers:
        chance.choice(numbers).text = chance.choice(NUMBERS)


def change_attribute(root: Element, chance: random.Random) -> None:
    """Give an attribute another value, or take it away."""
    having = [element for element in root.iter() if element.attrib]
    if having:
        element = chance.choice(having)
        name = chance.choice(list(element.attrib))
        if chance.random() < 0.3:
            del element.attrib[name]
        else:
            element.set(name, chance.choice((*NUMBERS, "start", "stop", "yes", "no", "P1")))


def rename_element(root: Element, chance: random.Random) -> None:
    """Give an element the name of another one."""
    _, child = _any(root, chance)
    _, other = _any(root, chance)
    child.tag = other.tag


def _legal_signs(chance: random.Random) -> str:
    signs = [sign for sign in SIGNS if sign.isprintable() or sign in "\t\n"]
    return "".join(chance.choice(signs) for _ in range(chance.randint(1, 60)))


BYTES: tuple[Callable[[bytes, random.Random], bytes], ...] = (
    cut,
    flip,
    delete_span,
    double_span,
    insert_noise,
    change_number,
)
LINES = tuple(map(_lines, (delete_line, double_line, swap_lines, cut_line, sign_in_line)))
ELEMENTS: tuple[Callable[[Element, random.Random], None], ...] = (
    delete_element,
    double_element,
    swap_elements,
    move_element,
    change_text,
    change_number_text,
    change_attribute,
    rename_element,
)
