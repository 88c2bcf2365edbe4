"""MusicXML elements that find what they hold by an index, for a converter that asks again and again.

xml2abc asks each note some thirty times for things like `notations/tuplet`, and ElementTree looks
through the note each time. Here a note is looked through once. Only what xml2abc calls is answered,
with the same values.
"""

from collections.abc import Iterator
from typing import Any
from xml.etree.ElementTree import Element, ElementTree

_INDEXED = ("note", "direction")
_INDEXED_INSIDE = ("notations", "direction-type")
# The paths of two tags that are asked of a note or direction, and of what is indexed inside one.
_PATHS = {
    parent: {child: f"{parent}/{child}" for child in children.split()}
    for parent, children in {
        "pitch": "step alter octave",
        "unpitched": "display-step display-octave",
        "time-modification": "actual-notes normal-notes",
        "notations": "tied slur tuplet",
    }.items()
}
_GROUPS = ("ornaments", "technical", "articulations", "dynamics")
# What all elements are asked for, and not the first alone.
_NONE: dict[str, list[Any]] = {
    path: []
    for path in (
        *("beam", "tie", "lyric", "notations/tied", "notations/tuplet", "notations/slur"),
        *("technical/fingering", "direction-type", "words", "rehearsal"),
    )
}
# xml2abc asks the note itself for these; notations with nothing else it would search in vain.
_PLAIN_NOTATIONS = frozenset(("tied", "slur", "tuplet"))


class Indexed:
    """A note, a direction or a part of one: `tag`, `text`, `get`, `find`, `findtext`, `findall`.

    The last three are the look-ups of dictionaries themselves: a call of a method in Python would
    take as long again. A note's `notations` are found only where xml2abc makes something of them.
    """

    __slots__ = ("find", "findall", "findtext", "get", "tag", "text")

    def __init__(self, element: Element) -> None:
        first: dict[str, Any] = {}
        texts: dict[str, str] = {}
        every = _NONE.copy()
        for child in element:
            tag = child.tag
            found: Any = child
            if tag in _INDEXED_INSIDE:
                # Only the first notations count, so plain ones are found as none and not passed over.
                found = None if _is_plain(child) else Indexed(child)
            if tag not in first:
                first[tag] = found
                texts[tag] = child.text or ""
            if tag in every:
                if every[tag]:
                    every[tag].append(found)
                else:
                    every[tag] = [found]
            paths = _PATHS.get(tag)
            if paths is None:
                if tag not in _GROUPS:
                    continue
                paths = {mark.tag: f"{tag}/{mark.tag}" for mark in child}
            for grandchild in child:
                path = paths.get(grandchild.tag)
                if path is None:
                    continue
                if path not in first:
                    first[path] = grandchild
                    texts[path] = grandchild.text or ""
                if path in every:
                    if every[path]:
                        every[path].append(grandchild)
                    else:
                        every[path] = [grandchild]
        self.tag, self.text, self.get = element.tag, element.text, element.get
        self.find, self.findtext, self.findall = first.get, texts.get, every.__getitem__


class _Measure:
    """A measure whose notes and directions are indexed."""

    __slots__ = ("_children", "_element")

    def __init__(self, element: Element) -> None:
        self._element = element
        self._children = [Indexed(child) if child.tag in _INDEXED else child for child in element]

    def __iter__(self) -> Iterator[Element | Indexed]:
        return iter(self._children)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._element, name)


class _Part:
    """A part whose measures are `_Measure`."""

    def __init__(self, element: Element) -> None:
        self._measures = [_Measure(measure) for measure in element.findall("measure")]

    def findall(self, path: str) -> list[Any]:
        """The measures for `measure`, their notes for `measure/note`."""
        if path == "measure":
            return list(self._measures)
        assert path == "measure/note", path
        return [child for measure in self._measures for child in measure if child.tag == "note"]


class IndexedTree(ElementTree):
    """A partwise MusicXML document as `xml2abc` reads it."""

    def findall(self, path: str, namespaces: dict[str, str] | None = None) -> list[Any]:
        """The parts, indexed; anything else as `ElementTree` has it."""
        found = super().findall(path, namespaces)
        return [_Part(part) for part in found] if path == "part" else found


def _is_plain(notations: Element) -> bool:
    return notations.tag == "notations" and _PLAIN_NOTATIONS.issuperset(mark.tag for mark in notations)
