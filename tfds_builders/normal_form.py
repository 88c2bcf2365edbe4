"""When two scores are the same music: their normal form.

The normal form of a piece is its rest-reduced text in C, without the header (titles, names of parts,
clefs, tempo, meter), quoted text (annotations, chord symbols), decorations, inline fields other than
the voices', slurs, staccato dots, blanks (beams), and with every double or final bar line written
as a plain one. Notes, rests, ties, tuplets, grace notes, repeats and the order of the voices remain.
So copies that were transposed, retitled or annotated anew are the same; another edition with other
notes, or with its voices in another order, is not.
"""

import hashlib
import re

_ORNAMENTS = re.compile(r'"[^"]*"|![^!]*!|\[(?!V:)[A-Za-z]:[^\]]*\]|\((?!\d)|\)|\.|[ \t]')
_BAR_LINES = re.compile(r"(?<!:)(?:\|\||\|\]|\[\|)(?!:)")


def normal_form(text_in_c: str) -> str:
    """The normal form of a piece, from its reduced text in C."""
    bars = text_in_c[max(text_in_c.find("[V:"), 0) :]
    return _BAR_LINES.sub("|", _ORNAMENTS.sub("", bars))


def digest(text: str) -> str:
    """128 bits of the SHA-256 of a text, in hex."""
    return hashlib.sha256(text.encode()).hexdigest()[:32]
