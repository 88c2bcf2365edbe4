"""Engraved SVG pages bound into one vector PDF, by typst (a wheel without system libraries)."""

import base64
import io
import re
import tempfile
from functools import cache
from pathlib import Path
from xml.etree import ElementTree

from notagen_jax.errors import NotaGenError

_SVG = "http://www.w3.org/2000/svg"
_XLINK = "http://www.w3.org/1999/xlink"
_MUSIC_FONT = "Leipzig"
_TEXT_FONT = "Libertinus Serif"
"""The serif family inside typst, in the place of verovio's 'Times, serif'."""

_EMBEDDED_FONT = re.compile(r"base64,([A-Za-z0-9+/=]+)")


def pdf_from_svg(pages: list[str], width_mm: float = 210.0, height_mm: float = 297.0) -> bytes:
    """Return a PDF with one page for each of verovio's SVG `pages`; text and glyphs stay vectors.

    The same pages give the same bytes. Raises `NotaGenError` when typst is missing or refuses a page.
    """
    try:
        import typst
    except ImportError as error:
        raise NotaGenError("PDF needs typst: pip install typst") from error
    if not pages:
        raise NotaGenError("no PDF: there are no pages")
    files = {f"page{number}.svg": _plain_svg(page) for number, page in enumerate(pages)}
    images = "\n".join(f'#image("{name}", width: {width_mm}mm)' for name in files)
    source = (
        f"#set document(date: none)\n#set page(width: {width_mm}mm, height: {height_mm}mm, margin: 0mm)\n"
        f"#set par(spacing: 0pt)\n#set block(spacing: 0pt)\n{images}\n"
    )
    with tempfile.TemporaryDirectory() as folder:
        for name, page in files.items():
            Path(folder, name).write_text(page, encoding="utf-8")
        Path(folder, "main.typ").write_text(source, encoding="utf-8")
        if any(f'font-family="{_MUSIC_FONT}"' in page for page in pages):
            Path(folder, f"{_MUSIC_FONT}.ttf").write_bytes(_music_font())
        try:
            document = typst.compile(
                Path(folder, "main.typ"),
                format="pdf",
                font_paths=[Path(folder)],
                ignore_system_fonts=True,
                pdf_tags=False,
            )
        except (RuntimeError, ValueError) as error:
            raise NotaGenError(f"no PDF: typst refuses the pages ({error})") from error
    if not isinstance(document, bytes) or not document.startswith(b"%PDF-"):
        raise NotaGenError("no PDF: typst returned no document")
    return document


@cache
def _music_font() -> bytes:
    """Verovio's music font for note signs inside text (♩ = 60), from its wheel's web font to TrueType."""
    import verovio
    from fontTools.ttLib import TTFont

    style = (Path(verovio.__file__).parent / "data" / f"{_MUSIC_FONT}.css").read_text(encoding="utf-8")
    web_font = _EMBEDDED_FONT.search(style)
    if web_font is None:
        raise NotaGenError(f"no PDF: verovio's {_MUSIC_FONT}.css holds no font; reinstall verovio")
    font = TTFont(io.BytesIO(base64.b64decode(web_font[1])), recalcTimestamp=False)
    font.flavor = None
    output = io.BytesIO()
    font.save(output)
    return output.getvalue()


def _plain_svg(page: str) -> str:
    """The page in the SVG that typst's renderer knows: no web fonts, one position for each text."""
    ElementTree.register_namespace("", _SVG)
    ElementTree.register_namespace("xlink", _XLINK)
    root = ElementTree.fromstring(page)
    for style in root.findall(f"{{{_SVG}}}style"):
        if "@font-face" in (style.text or ""):
            root.remove(style)
    for parent in list(root.iter()):
        for title in parent.findall(f"{{{_SVG}}}title"):
            parent.remove(title)
        for index, child in reversed(list(enumerate(parent))):
            if child.tag == f"{{{_SVG}}}text":
                parent[index : index + 1] = _positioned(child)
    plain = ElementTree.tostring(root, encoding="unicode")
    return plain.replace('"Times, serif"', f'"{_TEXT_FONT}"')


def _positioned(text: ElementTree.Element) -> list[ElementTree.Element]:
    """A `<text>` whose direct spans carry positions, as one `<text>` for each of these spans."""
    if not any("x" in span.attrib for span in text):
        return [text]
    parts = []
    for span in text:
        part = ElementTree.Element(text.tag, dict(text.attrib))
        for name in ("x", "y", "text-anchor"):
            if name in span.attrib:
                part.set(name, span.attrib.pop(name))
        part.append(span)
        parts.append(part)
    return parts
