"""The scores of the notation tests (tests/data/notation_*.abc): whole songs of the OpenScore Lieder
Corpus (CC0) in interleaved form, and a Bach chorale as a model writes it."""

import re
from pathlib import Path

DATA = Path(__file__).parent / "data"
SCORES = ("reichardt_nachtlied", "reichardt_fruehlingslied", "hensel_nonne")


def piece(name: str) -> str:
    """The text of tests/data/notation_NAME.abc."""
    return (DATA / f"notation_{name}.abc").read_text(encoding="utf-8")


def as_generated(score: str) -> str:
    """An interleaved score as a model would write it: voices that only rest left out, stream headers in."""
    lines = score.splitlines()
    body = [line for line in lines if line.startswith("[V:")]
    header = [line for line in lines if not line.startswith("[V:")]
    for index, line in enumerate(body):
        cells = re.findall(r"\[V:\d+\](?:(?!\[V:).)*", line)
        kept = [cell for cell in cells if re.search(r"[A-Ya-y]", re.sub(r"\[V:\d+\]|[xX]", "", cell))]
        body[index] = f"[r:{index}/{len(body) - 1 - index}]{''.join(kept)}"
    return "\n".join([*header, *body]) + "\n"
