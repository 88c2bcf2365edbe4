"""Composer labels: "Last, First", ASCII, in the paper's own spelling where it has one."""

import re

from unidecode import unidecode

from notagen_jax.errors import NotaGenError
from notagen_jax.labels import PROMPTS

_KNOWN = {prompt.composer for prompt in PROMPTS}


def composer_label(name: str) -> str:
    """Return the label of a composer given as "Last, First" (accents, brackets and aliases allowed).

    Where the paper's prompts list the composer with fewer first names, theirs is the label:
    `"Faisst, Clara Mathilda"` → `"Faisst, Clara"`. A single name (`Poldowski`) stays. Raises
    `NotaGenError` for an empty name and for several words without a comma.
    """
    label = unidecode(name).replace("_", " ")
    label = re.sub(r"\([^)]*\)|\s-\s*aka\s.*$|'(?=[\s,]|$)", " ", label)
    label = re.sub(r"\s+,", ",", " ".join(label.split())).strip(" ,")
    last, comma, first = (part.strip() for part in label.partition(","))
    if not last:
        raise NotaGenError("no composer is given")
    if not comma:
        if " " in last:
            raise NotaGenError('the composer is not written as "Last, First"')
        return last
    words = first.split()
    for known in (f"{last}, {' '.join(words[:count])}" for count in range(len(words), 0, -1)):
        if known in _KNOWN:
            return known
    return f"{last}, {first}"
