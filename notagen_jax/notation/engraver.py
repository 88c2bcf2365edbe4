"""The engraving itself: MusicXML through verovio to SVG pages, MIDI and PDF, in this process.

`engrave.engrave` runs this module in a process of its own, because a native engraver may crash or
never return on a broken score. Input is one JSON object on standard input, output one on standard
output: `{"svg": […], "midi": base64, "pdf": base64}`, or `{"error": message}`.
"""

import base64
import json
import re
import sys
from html import escape
from typing import Any

from notagen_jax.errors import NotaGenError

_A4 = (2100, 2970)  # verovio's page unit is 0.1 mm
_MARGIN = 120
# Staves of a system -> engraving scale in percent, so that two systems fit on a page where they can.
_SCALES = ((3, 62), (5, 55), (8, 48), (12, 40), (20, 32))
_SMALLEST_SCALE = 24
_MEI_NOTE = re.compile(r"<note[ >/]")
_HEAD = re.compile(r"<pgHead.*?</pgHead>", re.DOTALL)
_SCORE_DEFINITION = re.compile(r"<scoreDef[^>]*[^/]>|<scoreDef>")


def render(
    document: str,
    notes: int,
    formats: list[str],
    title: str | None = None,
    composer: str | None = None,
    subtitle: str | None = None,
) -> dict[str, Any]:
    """Render a MusicXML document of `notes` notes into those of `formats` that are svg, midi or pdf.

    Returns `{"svg": [text], "midi": base64, "pdf": base64}`, each only when asked for. Raises
    `NotaGenError` when verovio refuses the document or shows or plays fewer notes than it has.
    """
    try:
        import verovio
    except ImportError as error:
        raise NotaGenError("engraving needs verovio: pip install verovio") from error
    verovio.enableLog(verovio.LOG_OFF)
    toolkit = verovio.toolkit()
    toolkit.setOptions(_layout(document))
    if not toolkit.loadData(document):
        raise NotaGenError("verovio cannot read the MusicXML")
    results: dict[str, Any] = {}
    if "midi" in formats:
        midi = base64.b64decode(toolkit.renderToMIDI())
        if not midi.startswith(b"MThd"):
            raise NotaGenError("verovio wrote no MIDI")
        results["midi"] = base64.b64encode(midi).decode()
    if "svg" in formats or "pdf" in formats:
        engraved = toolkit.getMEI()
        shown = len(_MEI_NOTE.findall(engraved))
        if shown < notes:
            raise NotaGenError(f"verovio kept {shown} of {notes} notes")
        headed = _with_head(engraved, title, composer, subtitle)
        if headed != engraved and not toolkit.loadData(headed):
            raise NotaGenError("verovio cannot read the score with its title")
        pages = [toolkit.renderToSVG(number) for number in range(1, toolkit.getPageCount() + 1)]
        drawn = sum(len(re.findall(r'class="note(?: [^"]*)?"', page)) for page in pages)
        if drawn < notes:
            raise NotaGenError(f"verovio drew {drawn} of {notes} notes")
        if "svg" in formats:
            results["svg"] = pages
        if "pdf" in formats:
            from notagen_jax.notation.typeset import pdf_from_svg

            results["pdf"] = base64.b64encode(pdf_from_svg(pages)).decode()
    return results


def _layout(document: str) -> dict[str, Any]:
    """Verovio's options: A4, staves as large as their number allows, ids that do not change between runs."""
    staves = sum(int(number) for number in re.findall(r"<staves>(\d+)", document))
    staves += document.count("<part id=") - document.count("<staves>")
    scale = next((percent for most, percent in _SCALES if staves <= most), _SMALLEST_SCALE)
    width, height, margin = (length * 100 // scale for length in (*_A4, _MARGIN))
    return {
        "scale": scale,
        "pageWidth": width,
        "pageHeight": height,
        "pageMarginTop": margin,
        "pageMarginBottom": margin,
        "pageMarginLeft": margin,
        "pageMarginRight": margin,
        "footer": "none",
        "xmlIdSeed": 1,
    }


def _with_head(engraved: str, title: str | None, composer: str | None, subtitle: str | None) -> str:
    """The MEI with a title block on its first page, where there is something to say."""
    lines = (
        ('halign="center" valign="top" fontsize="x-large"', title),
        ('halign="right" valign="bottom"', composer),
        ('halign="left" valign="bottom"', subtitle),
    )
    rendered = "".join(f"<rend {place}>{escape(text)}</rend>" for place, text in lines if text)
    if not rendered:
        return engraved
    head = f'<pgHead func="first">{rendered}</pgHead>'
    return _SCORE_DEFINITION.sub(lambda found: found[0] + head, _HEAD.sub("", engraved), count=1)


def main() -> int:
    """Serve one request from standard input."""
    request = json.load(sys.stdin)
    try:
        answer = render(**request)
    except NotaGenError as error:
        answer = {"error": str(error)}
    json.dump(answer, sys.stdout)
    return 0


if __name__ == "__main__":
    sys.exit(main())
