"""From a model's text to notation: rests restored, validity judged, and files that open.

Importing this package loads neither verovio nor typst nor the converter; each is started when a
piece is rendered.
"""

from notagen_jax.notation.render import FORMATS, Rendered, render_piece
from notagen_jax.notation.restore import bars_to_go, for_viewing, restore_rests
from notagen_jax.notation.validity import Fault, MisalignedBar, Validity, check

__all__ = [
    "FORMATS",
    "Fault",
    "MisalignedBar",
    "Rendered",
    "Validity",
    "bars_to_go",
    "check",
    "for_viewing",
    "render_piece",
    "restore_rests",
]
