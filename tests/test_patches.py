"""The codec: worked examples, round trips, bar lines, windows, continuation and refusals."""

import random
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest

from notagen_jax.errors import NotaGenError
from notagen_jax.patches import (
    BEGIN_PATCH,
    END_PATCH,
    Piece,
    decode,
    encode_continuation,
    encode_piece,
    encode_training,
    is_end,
    split_bars,
    strip_stream_headers,
    window,
)

DATA = Path(__file__).parent / "data"
PIECES = sorted(DATA.glob("reduced_*.abc"))
EOS = "\x02"


def shown(patches: np.ndarray) -> list[str]:
    """Patches as text; the pads at the end of a patch are left out."""
    return [row.tobytes().decode("ascii").rstrip("\0") for row in patches]


def text_of(metadata: str, *lines: str) -> str:
    return metadata + "".join(line + "\n" for line in lines)


def test_worked_example():
    text = text_of(
        'V:1 treble nm="Soprano"\n', "[V:1]|: c2 d2 e2 f2 |[V:2]|: C,8 |", "[V:1]c8|[V:2]C,8|", "[V:1]c8|]"
    )
    assert shown(encode_training(text)) == [
        "\x01" * 15 + EOS,
        'V:1 treble nm="S',
        f'oprano"\n{EOS}',
        f"[r:0/2][V:1]{EOS}",
        f"|: c2 d2 e2 f2 {EOS}",
        f"|[V:2]{EOS}",
        f"|: C,8 |\n{EOS}",
        f"[r:1/1][V:1]c8{EOS}",
        f"|[V:2]C,8|\n{EOS}",
        "[r:2/0][V:1]c8|]",
        f"\n{EOS}",
        "\x01" + EOS * 15,
    ]


def test_text_that_fills_its_patch_has_no_eos():
    patches = encode_training(text_of("K:C" + " " * 12 + "\n", "[V:1]c8|"))
    assert shown(patches)[1] == "K:C" + " " * 12 + "\n"
    assert shown(patches)[2] == "[r:0/0][V:1]c8|\n"


@pytest.mark.parametrize("path", PIECES, ids=lambda path: path.stem)
def test_real_pieces_round_trip(path: Path):
    text = path.read_text(encoding="ascii")
    patches = encode_training(text)
    assert patches.dtype == np.uint8
    assert (patches[0] == BEGIN_PATCH).all()
    assert (patches[-1] == END_PATCH).all()
    assert strip_stream_headers(decode(patches)) == text
    body = [line for line in decode(patches).splitlines() if line.startswith("[r:")]
    assert [line[: line.index("]") + 1] for line in body] == [
        f"[r:{i}/{len(body) - 1 - i}]" for i in range(len(body))
    ]


def test_a_sampled_piece_keeps_its_own_headers():
    for path in PIECES:
        patches = encode_training(path.read_text(encoding="ascii"))
        assert (encode_training(decode(patches)) == patches).all()


def random_piece(rng: random.Random) -> str:
    """A random text with all the bar lines, in odd places and runs, and odd characters."""
    tokens = [
        "|:",
        "::",
        ":|",
        "[|",
        "||",
        "|]",
        "|",
        ":||:",
        "|||",
        "[V:2]",
        "V",
        "c2",
        "z8",
        " ",
        '"^a|b"',
        "~",
        "\t",
    ]
    tokens += [chr(rng.randrange(3, 128)) for _ in range(5)]
    metadata = [
        "".join(rng.choice("KLMQ:%123 |abc") for _ in range(rng.randrange(1, 60))) + "\n"
        for _ in range(rng.randrange(4))
    ]
    lines = [
        "[V:1]" + "".join(rng.choice(tokens) for _ in range(rng.randrange(30))).replace("\n", " ") + "\n"
        for _ in range(rng.randrange(1, 6))
    ]
    return "".join(metadata + lines)


def test_random_text_round_trips():
    rng = random.Random(1)
    for _ in range(300):
        text = random_piece(rng)
        patches = encode_training(text)
        assert strip_stream_headers(decode(patches)) == text
        for row in shown(patches)[1:-1]:
            assert len(row) == 16 or row.endswith(EOS), row
            assert EOS not in row[:-1]
            assert "\n" not in row.rstrip(EOS)[:-1], "a patch holds text of one line only"


def test_blank_lines_are_dropped():
    with_blanks = "K:C\n\n\n[V:1]c8|\n\n[V:1]d8|\n"
    assert (encode_training(with_blanks) == encode_training(with_blanks.replace("\n\n", "\n"))).all()


@pytest.mark.parametrize(
    ("line", "bars"),
    [
        ("[r:0/9][V:1]c8|[V:2]C8|\n", ["[r:0/9][V:1]c8", "|[V:2]C8|\n"]),
        ("[V:1]c8:|[V:2]C8:|\n", ["[V:1]c8", ":|[V:2]C8:|\n"]),
        ("[V:1]c8|][V:2]C8|]\n", ["[V:1]c8", "|][V:2]C8|]\n"]),
        ("[V:1][|c8||[V:2]C8|\n", ["[V:1]", "[|c8", "||[V:2]C8|\n"]),
        ("[V:1]a::b|[V:2]c|\n", ["[V:1]a", "::b", "|[V:2]c|\n"]),
        ("[V:1]no bar line\n", ["[V:1]no bar line\n"]),
        ("|[V:1]c8|\n", ["|[V:1]c8|\n"]),
        # Voices that go on after a bar line without a V of their own: only the last one is joined.
        ("[V:1]a|b|c\n", ["[V:1]a", "|b|c\n"]),
        # Adjacent bar lines count as one, and the rest of the line keeps its pairing.
        ("[V:1]A8:||:[V:2]B8:||:\n", ["[V:1]A8", ":||:[V:2]B8:||:\n"]),
        ("[V:1]A8:||:B8|[V:2]C8|\n", ["[V:1]A8", ":||:B8", "|[V:2]C8|\n"]),
        ("[V:1]A8|||[V:2]C8|\n", ["[V:1]A8", "|||[V:2]C8|\n"]),
    ],
)
def test_bars_are_headed_by_the_bar_line_before_them(line: str, bars: list[str]):
    assert split_bars(line.encode()) == [bar.encode() for bar in bars]


def test_text_after_a_double_repeat_is_not_lost():
    text = text_of("K:C\n", "[V:1]A8:||:[V:2]B8:||:", "[V:1]c8|[V:2]C8|", "[V:1]d8|]")
    assert strip_stream_headers(decode(encode_training(text))) == text


class Script:
    """Stands for a generator: gives scripted draws and records how many each had to choose from."""

    def __init__(self, *draws: int) -> None:
        self.draws = list(draws)
        self.choices: list[int] = []

    def integers(self, low: int, high: int | None = None) -> int:
        low, high = (0, low) if high is None else (low, high)
        self.choices.append(high - low)
        return low + (self.draws.pop(0) if self.draws else 0)


def window_distribution(piece: Piece, length: int) -> dict[bytes, float]:
    """Every window of a piece with its probability."""
    probabilities: dict[bytes, float] = defaultdict(float)
    pending: list[tuple[int, ...]] = [()]
    while pending:
        draws = pending.pop()
        script = Script(*draws)
        cut = window(piece, length, script)  # type: ignore[arg-type]
        if len(script.choices) > len(draws):
            pending += [(*draws, next_draw) for next_draw in range(script.choices[len(draws)])]
        else:
            probabilities[cut.tobytes()] += 1 / np.prod(script.choices)
    return probabilities


def expected_distribution(text: str, length: int) -> dict[bytes, float]:
    """The same, restated: cut points are the line starts up to the first that leaves a window or less."""
    patches = encode_training(text)
    rows = shown(patches)
    metadata = next(i for i, row in enumerate(rows) if row.startswith("[r:0/"))
    starts = [metadata] + [i + 1 for i in range(metadata, len(rows)) if "\n" in rows[i]]
    last = next(i for i, start in enumerate(starts) if metadata + len(rows) - start <= length)
    weights: dict[int, float] = defaultdict(float)
    share = 1 / 3 if last > 1 else 1 / 2
    weights[starts[0]] += share
    weights[starts[last]] += share
    for start in starts[1:last]:
        weights[start] += share / (last - 1)
    windows: dict[bytes, float] = defaultdict(float)
    for start, weight in weights.items():
        windows[np.concatenate([patches[:metadata], patches[start:]])[:length].tobytes()] += weight
    return windows


@pytest.mark.parametrize("length", [48, 64, 71, 72, 73, 74])
def test_windows_are_head_middle_and_tail_in_thirds(length: int):
    for path in PIECES:
        text = path.read_text(encoding="ascii")
        piece = encode_piece(text)
        assert piece.length > length
        found, expected = window_distribution(piece, length), expected_distribution(text, length)
        assert found.keys() == expected.keys()
        for cut, probability in expected.items():
            assert found[cut] == pytest.approx(probability)


def test_tail_is_the_first_line_that_leaves_no_more_than_a_window():
    # One patch of metadata besides the begin patch; lines of one patch, the end patch last.
    text = text_of("K:C\n", *["[V:1]c|"] * 10)
    piece = encode_piece(text)
    assert piece.length == 13
    tail = window(piece, 8, Script(1))  # type: ignore[arg-type]
    assert shown(tail)[2].startswith("[r:5/4]")
    assert len(tail) == 8
    assert is_end(tail[-1])


def test_a_piece_that_fits_comes_back_whole_and_draws_nothing():
    text = PIECES[0].read_text(encoding="ascii")
    whole = encode_training(text)
    script = Script()
    assert (encode_training(text, len(whole), script) == whole).all()  # type: ignore[arg-type]
    assert script.choices == []
    assert (encode_training(text, len(whole) - 5) == whole[:-5]).all()


def test_windows_follow_the_seed():
    text = PIECES[1].read_text(encoding="ascii")
    windows = [encode_training(text, 50, np.random.default_rng(seed)) for seed in (3, 3, 4, 5, 6, 7)]
    assert all(cut.shape == (50, 16) or is_end(cut[-1]) for cut in windows)
    assert windows[0].tobytes() == windows[1].tobytes()
    assert len({cut.tobytes() for cut in windows}) > 1


def test_a_prompt_has_no_open_patch():
    prompt = encode_continuation("%Romantic\n%Schroter, Corona\n%Art Song\n")
    assert shown(prompt.patches) == [
        "\x01" * 15 + EOS, f"%Romantic\n{EOS}", "%Schroter, Coron", f"a\n{EOS}", f"%Art Song\n{EOS}"
    ]  # fmt: skip
    assert len(prompt.tail) == 0
    assert encode_continuation("%Roman").tail.tobytes() == b"%Roman"


@pytest.mark.parametrize(
    ("text", "last", "tail"),
    [
        ("K:C\n[r:0/5][V:1]c2 d2", "[r:0/5][V:1]c2 d", "2"),
        ("K:C\n[r:0/5][V:1]c2 d", "[r:0/5][V:1]c2 d", ""),
        ("K:C\n[r:0/5][V:1]c2|[V:2]C", f"[r:0/5][V:1]c2{EOS}", "|[V:2]C"),
        ("K:C\n[r:0/5][V:1]c2|\n", "[r:0/5][V:1]c2|\n", ""),
        ("K:C\n[V:1]c2|[V:2]c|\n", f"[V:1]c2{EOS}", "|[V:2]c|\n"),
    ],
)
def test_the_last_piece_of_a_continuation_stays_open(text: str, last: str, tail: str):
    prefix = encode_continuation(text)
    assert shown(prefix.patches)[-1] == last
    assert prefix.tail.tobytes().decode() == tail
    assert decode(prefix.patches) + tail == text


def test_every_prefix_of_a_real_piece_round_trips():
    patches = encode_training(PIECES[0].read_text(encoding="ascii"))
    text = decode(patches)
    for end in range(1, len(text)):
        prefix = encode_continuation(text[:end])
        assert len(prefix.tail) < 16
        assert decode(prefix.patches) + prefix.tail.tobytes().decode() == text[:end]
    # Up to the open patch, a prefix has the patches of the piece.
    prefix = encode_continuation(text[: text.index("[V:3]e2", 200) if "[V:3]e2" in text[200:] else 300])
    assert (prefix.patches == patches[: len(prefix.patches)]).all()


def test_decode_stops_at_eos_and_drops_marks():
    patch = np.array([ord("a"), 1, 0, ord("b"), 2, ord("c")] + [0] * 10, np.uint8)
    assert decode(patch[None]) == "ab"
    assert is_end(END_PATCH)
    assert not is_end(BEGIN_PATCH)


def test_text_that_is_not_ascii_is_named():
    with pytest.raises(NotaGenError, match=r"line 4: character 'é' is not ASCII.*notagen prepare"):
        encode_training('K:C\n\n[V:1]c8|\n[V:1]"^café"c8|\n')
    with pytest.raises(NotaGenError, match=r"line 2: character 'ä'"):
        encode_continuation("%Baroque\n%Händel\n")


def test_patch_marks_in_the_text_are_refused():
    with pytest.raises(NotaGenError, match=r"line 2: control character .*\\x02"):
        encode_training("K:C\n[V:1]c\x028|\n")


def test_a_text_without_body_is_refused():
    with pytest.raises(NotaGenError, match="no tune body"):
        encode_training("X:1\nK:C\nCDEF GABc|\n")
