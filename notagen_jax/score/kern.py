"""Checks that Humdrum text is whole: music21 reads what is left of a damaged file without a word.

Facts: the Humdrum user guide, chapter 5 (spines and spine paths).
"""

from notagen_jax.score.refusal import ScoreError


def check_kern(text: str) -> None:
    """Raise `ScoreError` unless every line has as many columns as spines are open, and all are ended."""
    spines = 0
    began = False
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip() or line.startswith("!!"):
            continue
        tokens = line.rstrip("\r").split("\t")
        if not spines:
            if not all(token.startswith("**") for token in tokens):
                raise ScoreError("not a Humdrum score", f"line {number} begins no spine")
            if began:
                raise ScoreError("the Humdrum file holds several scores; write one a file")
            began = True
        elif len(tokens) != spines:
            columns = f"line {number} has {len(tokens)} columns for {spines} spines"
            raise ScoreError("the Humdrum score is damaged", columns)
        spines = _spines_after(tokens)
    if not began:
        raise ScoreError("not a Humdrum score", "no line begins a spine")
    if spines:
        raise ScoreError("the Humdrum score is cut off", f"{spines} spines are not ended")


def _spines_after(tokens: list[str]) -> int:
    """How many spines go on after a line: split, added, joined (neighbours become one) and ended."""
    spines = 0
    before = ""
    for token in tokens:
        if token in ("*^", "*+"):
            spines += 2
        elif token != "*-" and not (token == "*v" == before):
            spines += 1
        before = token
    return spines
