"""Whole pieces from a model that was briefly trained on a piece longer than its window."""

import re
import threading

import jax
import numpy as np
import pytest

from notagen_jax.config import PRESETS, ModelConfig
from notagen_jax.errors import NotaGenError
from notagen_jax.model import init_params
from notagen_jax.patches import encode_continuation, encode_piece
from notagen_jax.sampling import Sampler, SamplingInterrupted, SamplingSettings, default_batch_size, generate
from notagen_jax.sampling.batch import NARROW, Batch
from notagen_jax.sampling.generate import side_by_side
from notagen_jax.sampling.windows import body_has_begun, next_window
from tests.counting_composer import train

PROMPT = "%Baroque\n%Bach, J\n%end\n"
BARS = 10
CONFIG = ModelConfig(hidden_size=64, patch_layers=1, char_layers=1, patch_length=9)


@pytest.fixture(scope="module")
def params():
    """Parameters that write `[r:0/9][V:1]C|` … `[r:9/0][V:1]E|`, one patch a bar, any notes."""
    piece = PROMPT + "[V:1]~|\n" * BARS
    assert encode_piece(piece).length > CONFIG.patch_length
    return train(CONFIG, piece, b"CDEFGAB", steps=300)


@pytest.fixture(scope="module")
def eight(params):
    """The pieces of seeds 0 … 7, sampled together."""
    return generate(CONFIG, params, [PROMPT] * 8, list(range(8)))


def is_whole(text):
    bars = [rf"\[r:{i}/{BARS - 1 - i}\]\[V:1\][A-G]\|\n" for i in range(BARS)]
    return re.fullmatch(re.escape(PROMPT) + "".join(bars), text) is not None


def test_a_piece_longer_than_the_window_comes_out_whole(eight):
    for sample in eight:
        assert is_whole(sample.text), sample.text
        assert sample.finished
        assert sample.reason == "the piece came to its end"
        # The end patch, and each patch that a window opened again and closed.
        assert sample.patches > BARS + 1
        assert sample.seconds > 0
    assert [sample.seed for sample in eight] == list(range(8))
    assert len({sample.text for sample in eight}) == 8


@pytest.mark.parametrize("batch_size", [None, 1, 3])
def test_a_seed_gives_the_same_piece_whatever_batch_it_rides_in(params, eight, batch_size):
    seeds = [6, 1, 4]
    prompts = [PROMPT, "%Romantic\n", PROMPT]
    samples = generate(
        CONFIG, params, prompts, seeds, SamplingSettings(max_patches=40), batch_size=batch_size
    )
    assert samples[0].text == eight[6].text
    assert samples[2].text == eight[4].text


def test_waiting_prompts_take_the_rows_of_finished_pieces(params, eight):
    assert default_batch_size(8) == 8
    samples = generate(CONFIG, params, [PROMPT] * 8, list(range(8)), batch_size=3)
    assert [sample.text for sample in samples] == [sample.text for sample in eight]


@pytest.fixture
def cores(monkeypatch, request):
    """A CPU with so many cores."""
    if jax.default_backend() != "cpu":
        pytest.skip("an accelerator draws one batch at a time")
    monkeypatch.setattr("os.sched_getaffinity", lambda _: range(request.param), raising=False)
    return request.param


@pytest.mark.parametrize(
    ("cores", "batch_size", "batches"), [(1, 3, 1), (3, 2, 3), (8, 2, 4)], indirect=["cores"]
)
def test_batches_side_by_side_give_the_same_pieces(params, eight, cores, batch_size, batches):
    sampler = Sampler(CONFIG, params, batch_size)
    for prompts in ([PROMPT] * 8, [PROMPT] * 7):
        samples = sampler.generate(prompts, list(range(len(prompts))))
        assert [sample.text for sample in samples] == [sample.text for sample in eight[: len(prompts)]]
        assert len(sampler._batches) == batches
    assert sampler.generate([PROMPT], [7])[0].text == eight[7].text
    assert len(sampler._batches) == 1


@pytest.mark.parametrize("cores", [1, 2], indirect=True)
def test_a_batch_with_few_pieces_left_goes_on_narrower(params, monkeypatch, cores):
    seen = []
    narrow = Batch._narrow

    def noting(batch, width):
        seen.append((batch.width, len(batch.placed)))
        narrow(batch, width)

    monkeypatch.setattr(Batch, "_narrow", noting)
    sampler = Sampler(CONFIG, params, 16)
    # Those that are begun are soon at the limit, and the other two go on alone.
    settings = SamplingSettings(max_chars=150)
    begun = PROMPT + "".join(f"[r:{i}/{BARS - 1 - i}][V:1]C|\n" for i in range(BARS - 2))
    prompts = [PROMPT if seed % 16 == 6 else begun for seed in range(16 * cores + 16)]
    whole = [seed for seed, prompt in enumerate(prompts) if prompt == PROMPT]
    starts = [begun] + [PROMPT] * len(whole)
    expected = generate(CONFIG, params, starts, [1, *whole], settings, batch_size=2)
    for _ in range(2):
        seen.clear()
        samples = sampler.generate(prompts, list(range(len(prompts))), settings)
        assert len(samples) == len(prompts)
        assert [samples[seed].text for seed in (1, *whole)] == [sample.text for sample in expected]
        assert seen
        assert {width for width, _ in seen} == {16}
        assert all(0 < left <= NARROW for _, left in seen)


@pytest.mark.parametrize("cores", [2], indirect=True)
def test_batches_are_drawn_at_the_same_time(params, monkeypatch, cores):
    both = threading.Barrier(cores, timeout=60)
    draw = Batch.draw
    met = set()

    def meeting(batch, *inputs):
        if batch not in met:
            met.add(batch)
            both.wait()  # breaks, and fails the test, where one batch is drawn after the other
        return draw(batch, *inputs)

    monkeypatch.setattr(Batch, "draw", meeting)
    samples = Sampler(CONFIG, params, 2).generate([PROMPT] * 4, list(range(4)))
    assert len(met) == cores
    assert all(is_whole(sample.text) for sample in samples)


@pytest.mark.parametrize("cores", [64], indirect=True)
def test_batches_side_by_side_keep_within_cores_pieces_and_memory(cores):
    assert side_by_side(PRESETS["mini"], 16, 1000) == 16
    assert side_by_side(PRESETS["mini"], 16, 33) == 3
    assert side_by_side(PRESETS["large"], 16, 1000) == 1


@pytest.mark.parametrize("cores", [2], indirect=True)
def test_side_by_side_an_interrupt_or_a_failure_leaves_the_sampler_usable(params, eight, cores):
    sampler = Sampler(CONFIG, params, 2)

    def stop(error):
        def progress(_):
            raise error

        return progress

    with pytest.raises(SamplingInterrupted) as caught:
        sampler.generate([PROMPT] * 8, list(range(8)), progress=stop(KeyboardInterrupt()))
    assert [sample.seed for sample in caught.value.samples] == [0, 1, 2, 3]
    with pytest.raises(OSError, match="disk"):
        sampler.generate([PROMPT] * 8, list(range(8)), progress=stop(OSError("disk")))
    samples = sampler.generate([PROMPT] * 8, list(range(8)))
    assert [sample.text for sample in samples] == [sample.text for sample in eight]


def test_nothing_compiles_from_the_second_call_on(params):
    compiled = []

    def note(event, duration, **_):
        if event.endswith("backend_compile_duration"):
            compiled.append(event)

    jax.monitoring.register_event_duration_secs_listener(note)
    try:
        jax.jit(lambda x: x * 3 + 1)(np.float32(1))
        assert compiled, "the listener hears no compilation: the test below would prove nothing"
        generate(CONFIG, params, [PROMPT] * 2, [0, 1])
        compiled.clear()
        other = SamplingSettings(top_k=5, top_p=0.8, temperature=1.0, max_patches=33)
        samples = generate(CONFIG, params, [PROMPT + "[r:0/9][V:1]C|\n[r:1/8]", PROMPT], [5, 9], other)
        assert not compiled
        assert all(is_whole(sample.text) for sample in samples)
    finally:
        jax.monitoring.unregister_event_duration_listener(note)


def test_the_first_bar_is_forced_to_be_bar_0_and_only_the_first(params):
    # The model starts at any bar: what makes it start at 0 is the sampler.
    settings = SamplingSettings(max_patches=1)
    samples = generate(CONFIG, params, [PROMPT] * 4, list(range(4)), settings)
    assert all(sample.text.startswith(PROMPT + "[r:0/9]") for sample in samples)
    begun = PROMPT + "[r:3/6][V:1]C|\n"
    settings = SamplingSettings(max_patches=2)
    samples = generate(CONFIG, params, [begun] * 4, list(range(4)), settings)
    assert all(sample.text.startswith(begun + "[r:4/5]") for sample in samples)
    assert not body_has_begun(PROMPT + "[r:")
    assert body_has_begun(PROMPT + "[r:4")


@pytest.mark.parametrize("given", ["[r:", "[r:0/9][V", "[r:0/9][V:1]E|", "[r:0/9][V:1]E|\n[r:1/8][V:1]"])
def test_a_prefix_is_gone_on_from_inside_its_last_patch(params, given):
    (sample,) = generate(CONFIG, params, [PROMPT + given], [3])
    assert sample.text.startswith(PROMPT + given)
    assert is_whole(sample.text), sample.text


def test_a_prefix_longer_than_the_window_is_cut_as_a_window_is(params):
    given = PROMPT + "".join(f"[r:{i}/{BARS - 1 - i}][V:1]C|\n" for i in range(8))
    assert len(encode_continuation(given).patches) >= CONFIG.patch_length
    (sample,) = generate(CONFIG, params, [given], [0])
    assert sample.text.startswith(given)
    assert is_whole(sample.text), sample.text


def test_pieces_are_given_up_at_a_limit_with_the_text_so_far(params, eight):
    (by_patches,) = generate(CONFIG, params, [PROMPT], [0], SamplingSettings(max_patches=3))
    assert (by_patches.finished, by_patches.patches) == (False, 3)
    assert "3 patches" in by_patches.reason
    assert eight[0].text.startswith(by_patches.text)
    (by_chars,) = generate(CONFIG, params, [PROMPT], [0], SamplingSettings(max_chars=60))
    assert not by_chars.finished
    assert "60 characters" in by_chars.reason
    assert 60 < len(by_chars.text) <= 60 + 16
    assert eight[0].text.startswith(by_chars.text)
    (by_time,) = generate(CONFIG, params, [PROMPT], [0], SamplingSettings(max_seconds=1e-9))
    assert not by_time.finished
    assert "seconds" in by_time.reason


def test_a_window_without_a_line_to_drop_is_given_up():
    fresh = jax.jit(init_params, static_argnums=0)(CONFIG, jax.random.key(1))
    (sample,) = generate(CONFIG, fresh, ["%x\n"], [0])
    assert not sample.finished
    assert "window is full" in sample.reason
    assert sample.text.startswith("%x\n")


def test_progress_is_reported_while_it_runs(params, eight):
    seen = []
    samples = generate(CONFIG, params, [PROMPT] * 3, [0, 1, 2], progress=seen.append)
    assert len(seen) > 1
    assert [report.stopped for report in seen] == sorted(report.stopped for report in seen)
    assert (seen[0].total, seen[-1].stopped) == (3, 3)
    assert seen[-1].characters == sum(len(sample.text) - len(PROMPT) for sample in samples)
    first = seen[0].moved[0]
    assert (first.index, first.seed) == (0, 0)
    assert eight[0].text.startswith(first.text)
    assert "3 of 3 pieces done" in str(seen[-1])
    stopped = [piece.sample for report in seen for piece in report.moved if piece.sample is not None]
    assert sorted(stopped, key=lambda sample: sample.seed) == samples


@pytest.mark.parametrize("cores", [1], indirect=True)
def test_an_interrupt_hands_over_the_pieces_and_leaves_the_sampler_usable(params, eight, cores):
    sampler = Sampler(CONFIG, params, 2)

    def press_ctrl_c(progress):
        raise KeyboardInterrupt

    with pytest.raises(SamplingInterrupted) as caught:
        sampler.generate([PROMPT] * 3, [0, 1, 2], SamplingSettings(max_patches=40), press_ctrl_c)
    assert [sample.seed for sample in caught.value.samples] == [0, 1]
    assert not any(sample.finished for sample in caught.value.samples if not is_whole(sample.text))
    assert caught.value.samples[0].text.startswith(PROMPT + "[r:0/9]")
    assert sampler.generate([PROMPT], [2])[0].text == eight[2].text


@pytest.mark.parametrize(
    ("prompts", "seeds", "message"),
    [
        ([], [], "no prompt"),
        (PROMPT, [0], "list"),
        ([PROMPT], [0, 1], "1 prompts but 2 seeds"),
        ([PROMPT], [-1], "seed -1"),
        ([PROMPT], [1 << 64], "seed"),
        ([PROMPT, "%Dvořák\n"], [0, 1], "prompt 2: line 1: character 'ř'"),
        (["%x\n" * 9], [0], "prompt 1: 10 patches do not fit the model's window of 9"),
    ],
)
def test_requests_that_cannot_work_are_named(params, prompts, seeds, message):
    with pytest.raises(NotaGenError, match=message):
        generate(CONFIG, params, prompts, seeds)
    with pytest.raises(NotaGenError, match="batch size"):
        generate(CONFIG, params, [PROMPT], [0], batch_size=0)


def test_windows_keep_the_metadata_and_the_last_half_of_the_lines_seen_first():
    config = CONFIG.replace(patch_length=64)
    metadata = "%x\nL:1/8\n"
    lines = [f"[r:{i}/{99 - i}][V:1]C2|\n" for i in range(100)]
    window, kept = next_window(config, metadata + "".join(lines[:11]), None)
    assert kept == 5
    expected = encode_continuation(metadata + "".join(lines[6:11]))
    assert (window.patches == expected.patches).all()
    assert (window.tail == expected.tail).all()
    # A later overflow keeps as many lines as the first, and a broken-off line counts.
    window, kept = next_window(config, metadata + "".join(lines[:30]) + "[r:30", kept)
    assert kept == 5
    assert (window.patches == encode_continuation(metadata + "".join(lines[26:30]) + "[r:30").patches).all()
    assert bytes(window.tail) == b"[r:30"


def test_windows_keep_fewer_lines_where_they_no_longer_fit():
    config = CONFIG.replace(patch_length=8)
    line = "[r:0/9][V:1]" + "C" * 30 + "|\n"
    window, kept = next_window(config, "%x\n" + line * 6, 4)
    assert kept == 4
    assert len(window.patches) < 8
    assert next_window(config, "%x\n" + line.replace("C", "CDEFG") * 3, None) is None
    assert next_window(config, "%x\n" + line, None) is None
    assert next_window(config, "%x\n" * 20, None) is None
