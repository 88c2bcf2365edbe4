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
# xml2abc asks the note itself for these; notations with nothing else it would search in vain.
_PLAIN_NOTATIONS = frozenset(("tied", "slur", "tuplet"))


class Indexed:
    """A note, a direction or a part of one: `tag`, `text`, `get`, `find`, `findtext`, `findall`.

    Paths are of one or two tags. `find(path)` and `findtext(path, default)` are the look-ups of
    dictionaries themselves: a call of a method in Python would take as long again. A note's
    `notations` are found only where xml2abc makes something of them.
    """

    __slots__ = ("_first", "_several", "find", "findtext", "get", "tag", "text")

    def __init__(self, element: Element) -> None:
        first: dict[str, Any] = {}
        texts: dict[str, str] = {}
        several: dict[str, list[Any]] = {}
        for child in element:
            tag = child.tag
            found: Any = child
            if tag in _INDEXED_INSIDE:
                # Only the first notations count, so plain ones are found as none and not passed over.
                found = None if _is_plain(child) else Indexed(child)
            if tag in first:
                several.setdefault(tag, [first[tag]]).append(found)
            else:
                first[tag] = found
                texts[tag] = child.text or ""
            for grandchild in child:
                path = f"{tag}/{grandchild.tag}"
                if path in first:
                    several.setdefault(path, [first[path]]).append(grandchild)
                else:
                    first[path] = grandchild
                    texts[path] = grandchild.text or ""
        self.tag, self.text, self.get = element.tag, element.text, element.get
        self._first, self._several = first, several
        self.find, self.findtext = first.get, texts.get

    def findall(self, path: str) -> list[Any]:
        """All elements at a path, in the document's order."""
        if path in self._several:
            return self._several[path]
        return [self._first[path]] if path in self._first else []


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
