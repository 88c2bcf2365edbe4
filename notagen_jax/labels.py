"""The labels that condition a fine-tuned model: period, composer, instrumentation (paper §2.3)."""

import difflib
import re
from collections.abc import Iterable
from dataclasses import dataclass

from notagen_jax.errors import NotaGenError

PERIODS = ("Baroque", "Classical", "Romantic")
INSTRUMENTATIONS = ("Keyboard", "Chamber", "Orchestral", "Art Song", "Choral", "Vocal-Orchestral")

PERIOD_YEARS = {"Baroque": (1600, 1750), "Classical": (1750, 1810), "Romantic": (1810, 1950)}
"""Years [from, to) in which a composer of unlisted period did the middle of their work."""

_CODES = {
    "K": "Keyboard", "Ch": "Chamber", "O": "Orchestral", "AS": "Art Song", "Co": "Choral",
    "VO": "Vocal-Orchestral",
}  # fmt: skip

# Composer and instrumentation codes of the official demo's 112 prompts.
_PROMPT_TABLE = {
    "Baroque": """
        Bach, Johann Sebastian: Ch Co K O VO; Corelli, Arcangelo: Ch O; Handel, George Frideric: Ch K O VO;
        Scarlatti, Domenico: K; Vivaldi, Antonio: Ch O VO""",
    "Classical": """
        Beethoven, Ludwig van: AS Ch K O; Haydn, Joseph: Ch K O VO; Mozart, Wolfgang Amadeus: Ch Co K O VO;
        Paradis, Maria Theresia von: AS; Reichardt, Louise: AS; Saint-Georges, Joseph Bologne: Ch;
        Schroter, Corona: AS""",
    "Romantic": """
        Bartok, Bela: K; Berlioz, Hector: Co; Bizet, Georges: AS; Boulanger, Lili: AS; Boulton, Harold: AS;
        Brahms, Johannes: AS Ch Co K O; Burgmuller, Friedrich: K; Butterworth, George: AS;
        Chaminade, Cecile: AS; Chausson, Ernest: AS; Chopin, Frederic: AS K; Cornelius, Peter: AS;
        Debussy, Claude: AS K; Dvorak, Antonin: Ch Co K O; Faisst, Clara: AS; Faure, Gabriel: AS Ch K;
        Franz, Robert: AS; Gonzaga, Chiquinha: AS; Grandval, Clemence de: AS; Grieg, Edvard: K O;
        Hensel, Fanny: AS; Holmes, Augusta Mary Anne: AS; Jaell, Marie: AS; Kinkel, Johanna: AS;
        Kralik, Mathilde: AS; Lang, Josephine: AS; Lehmann, Liza: AS; Liszt, Franz: K; Mayer, Emilie: Ch;
        Medtner, Nikolay: K; Mendelssohn, Felix: AS Ch Co K O; Munktell, Helena: AS; Parratt, Walter: Co;
        Prokofiev, Sergey: K; Rachmaninoff, Sergei: Co K; Ravel, Maurice: AS Ch K;
        Saint-Saens, Camille: Ch K O; Satie, Erik: AS K; Schubert, Franz: AS Ch Co K; Schumann, Clara: AS;
        Schumann, Robert: AS Ch Co K; Scriabin, Aleksandr: K; Shostakovich, Dmitry: Ch K; Sibelius, Jean: K;
        Smetana, Bedrich: K; Tchaikovsky, Pyotr: K O; Viardot, Pauline: AS; Warlock, Peter: AS;
        Wolf, Hugo: AS; Zumsteeg, Emilie: AS""",
}


@dataclass(frozen=True, order=True)
class Prompt:
    """The condition of a piece: a period, a composer as "Last, First" and an instrumentation, all ASCII.

    Raises `NotaGenError` for an empty label, one with a line break or a `%`, or one that is not ASCII.
    """

    period: str
    composer: str
    instrumentation: str

    def __post_init__(self) -> None:
        for field, label in (
            ("period", self.period),
            ("composer", self.composer),
            ("instrumentation", self.instrumentation),
        ):
            _check_label(field, label)

    def lines(self) -> str:
        """Return the three comment lines that start a conditioned text, each ending `\\n`."""
        return f"%{self.period}\n%{self.composer}\n%{self.instrumentation}\n"


def _check_label(field: str, label: str) -> None:
    if label.strip() and label == label.strip() and all(" " <= char <= "~" for char in label):
        return
    wrong = next((f": {char!r}" for char in label if not " " <= char <= "~"), "")
    raise NotaGenError(
        f"the {field} label {label!r} is empty, has spaces around it, or is not ASCII{wrong} "
        '(write "Dvorak, Antonin", not its accented form)'
    )


def _official_prompts() -> tuple[Prompt, ...]:
    prompts = []
    for period, table in _PROMPT_TABLE.items():
        for entry in table.split(";"):
            composer, codes = entry.split(":")
            prompts += [Prompt(period, " ".join(composer.split()), _CODES[code]) for code in codes.split()]
    return tuple(prompts)


PROMPTS = _official_prompts()
"""The 112 combinations with more than ten pieces in the paper's fine-tuning set."""

_PERIOD_OF_COMPOSER = {prompt.composer: prompt.period for prompt in PROMPTS}


def period_of(composer: str, born: int | None = None, died: int | None = None) -> str | None:
    """Return a composer's period: the paper's own label, else by the middle of the working life.

    The working life runs from age 20 to death (without a death year: to age 60). Returns None when
    the years are unknown or outside `PERIOD_YEARS`.
    """
    if composer in _PERIOD_OF_COMPOSER:
        return _PERIOD_OF_COMPOSER[composer]
    if born is not None:
        start, end_of_life = born + 20, died if died is not None else born + 60
    elif died is not None:
        start, end_of_life = died - 35, died
    else:
        return None
    middle = (start + max(end_of_life, start)) / 2
    for period, (first, end) in PERIOD_YEARS.items():
        if first <= middle < end:
            return period
    return None


def nearest(prompt: tuple[str, str, str] | Prompt, known: Iterable[Prompt] = PROMPTS) -> list[Prompt]:
    """Return up to five known prompts closest to `prompt`: those of its (closest) composer first.

    For the message that refuses an unknown prompt. Capitals and accents do not count.
    """
    period, composer, instrumentation = (
        (prompt.period, prompt.composer, prompt.instrumentation) if isinstance(prompt, Prompt) else prompt
    )
    known = list(known)

    def likeness(first: str, second: str) -> float:
        return difflib.SequenceMatcher(None, _plain(first), _plain(second)).ratio()

    def closeness(candidate: Prompt) -> float:
        return (
            4 * likeness(composer, candidate.composer)
            + 2 * likeness(instrumentation, candidate.instrumentation)
            + likeness(period, candidate.period)
        )

    return sorted(known, key=closeness, reverse=True)[:5]


def _plain(label: str) -> str:
    return re.sub(r"[^a-z ]", "", label.lower())
