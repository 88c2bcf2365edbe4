"""One piece while it is being drawn: its text so far, its window, its limits, the bar under way."""

import time

import numpy as np

from notagen_jax.config import ModelConfig
from notagen_jax.errors import NotaGenError
from notagen_jax.patches import Continuation, decode, encode_continuation, is_end
from notagen_jax.sampling.bars import BarWatch
from notagen_jax.sampling.settings import PieceProgress, Sample, SamplingSettings
from notagen_jax.sampling.windows import next_window

FINISHED = "the piece came to its end"


class GrowingPiece:
    """The host's side of a row of the batch."""

    def __init__(
        self, config: ModelConfig, index: int, prompt: str, seed: int, settings: SamplingSettings
    ) -> None:
        """Raises `NotaGenError` on a prompt that is not ASCII or too long for the model's window."""
        self.config = config
        self.index = index
        self.seed = seed
        self.settings = settings
        self.prompt = prompt
        self.text = prompt
        self.drawn = 0
        """Patches drawn, those of bars drawn again included: the number that the next one is drawn with."""
        self.patches = 0
        """Patches drawn that stand."""
        self.bars_redrawn = 0
        self.cached = 0
        """How many patches of the window stand in the row's cache."""
        self.kept_lines: int | None = None
        self.sample: Sample | None = None
        self.begun = False
        self.started = 0.0
        self._window: list[np.ndarray] = []
        self._tail = np.zeros(0, np.uint8)
        self._open(self._first_window())
        self._bar = BarWatch(prompt) if settings.bar_attempts > 1 else None
        self._attempt, self._most_attempts = 1, settings.bar_attempts
        # What a prompt has begun is not ours to draw again.
        self._stands = self._bar is not None and self._bar.line_start < len(prompt)
        self._patches_before_bar = 0
        self._window_before_bar: int | None = None

    def _first_window(self) -> Continuation:
        try:
            window = encode_continuation(self.text)
        except NotaGenError as error:
            raise NotaGenError(f"prompt {self.index + 1}: {error}") from error
        if len(window.patches) < self.config.patch_length:
            return window
        shorter = next_window(self.config, self.text, None)
        if shorter is None:
            raise NotaGenError(
                f"prompt {self.index + 1}: {len(window.patches)} patches do not fit the model's window of "
                f"{self.config.patch_length}; shorten it"
            )
        window, self.kept_lines = shorter
        return window

    def _open(self, window: Continuation) -> None:
        self._window, self._tail = list(window.patches), window.tail
        self.cached = 0
        self._window_before_bar = None

    @property
    def window(self) -> Continuation:
        """What the row's cache must hold for the next patch to be drawn."""
        return Continuation(np.stack(self._window), self._tail)

    @property
    def patches_left(self) -> int | None:
        """Patches it may still draw; None without a limit."""
        limit = self.settings.max_patches
        return None if limit is None else limit - self.patches

    def start(self) -> None:
        """Begin to count its time."""
        self.begun = True
        self.started = time.monotonic()

    def add(self, patches: np.ndarray) -> bool:
        """Take what the device drew, uint8 (n, 16), up to the end, the first limit, or a bar to draw again.

        Returns whether the row's cache holds the window no longer: then a bar is to be drawn again.
        """
        settings = self.settings
        late = time.monotonic() - self.started > settings.max_seconds
        for patch in patches:
            self.drawn += 1
            self.patches += 1
            before, ended = len(self.text), is_end(patch)
            if not ended:
                new = patch.copy()
                new[: len(self._tail)] = 0
                self.text += decode(new)
                self._tail = self._tail[:0]
                self._window.append(patch)
                self.cached += 1
            if self._bar is not None and not late and self._take_back(self._bar, before, ended):
                return True
            if ended:
                self.stop(FINISHED, finished=True)
            elif len(self.text) > settings.max_chars:
                self.stop(f"given up: longer than {settings.max_chars} characters")
            elif self.patches == settings.max_patches:
                self.stop(f"stopped after {self.patches} patches, as asked")
            if self.sample is not None:
                return False
        if late:
            self.stop(f"given up: not finished after {settings.max_seconds:g} seconds")
        return False

    def _take_back(self, bar: BarWatch, judged: int, ended: bool) -> bool:
        """Take the bar under way back if it cannot be sound and may be drawn again.

        judged: how much of the text was found sound before

        It is judged patch by patch, so that which patches were drawn for nothing, and with them the
        random numbers of the next ones, do not depend on how many the device draws at a time.
        """
        while True:
            whole = "\n" in self.text[bar.line_start :]
            if not self._stands:
                sound = bar.is_sound(self.text, judged) and not (ended and bar.is_broken_off(self.text))
                if not sound and self._attempt < self._most_attempts and self._reopen(bar.line_start):
                    self._attempt += 1
                    self.bars_redrawn += 1
                    return True
                if not sound:
                    # A piece that goes astray is not worth the same effort at every bar.
                    self._stands = True
                    self._most_attempts = max(self._most_attempts // 2, 1)
            if not whole:
                return False
            if bar.accept_line(self.text) and not self._stands:
                self._most_attempts = min(2 * self._most_attempts, self.settings.bar_attempts)
            self._attempt, self._stands = 1, False
            self._patches_before_bar = self.patches
            at_patch = bar.line_start == len(self.text)
            self._window_before_bar = len(self._window) if at_patch else None

    def _reopen(self, end: int) -> bool:
        """Go back to the text up to `end`, where the bar under way begins; False where no window holds it."""
        text = self.text[:end]
        if self._window_before_bar is not None:
            del self._window[self._window_before_bar :]
            self.cached = min(self.cached, self._window_before_bar)
        elif self.kept_lines is None:
            window = encode_continuation(text)
            if len(window.patches) >= self.config.patch_length:
                return False
            self._open(window)
        else:
            following = next_window(self.config, text, self.kept_lines)
            if following is None:
                return False
            self._open(following[0])
        self.text = text
        self.patches = self._patches_before_bar
        return True

    def overflow(self) -> bool:
        """Start the next window; False, and the piece is given up, when nothing can be dropped."""
        following = next_window(self.config, self.text, self.kept_lines)
        if following is None:
            self.stop("given up: the window is full, and no line of the tune body can be dropped")
            return False
        window, self.kept_lines = following
        self._open(window)
        return True

    def stop(self, reason: str, finished: bool = False) -> None:
        """Fix the result, unless it is fixed already or the piece was never begun."""
        if self.sample is None and self.begun:
            seconds = time.monotonic() - self.started
            self.sample = Sample(
                self.text, finished, reason, self.patches, seconds, self.seed, self.bars_redrawn
            )
            # A run keeps its pieces to the end; their windows are many times as large as their texts.
            self._window = []

    @property
    def characters(self) -> int:
        """Characters drawn that stand."""
        return len(self.text) - len(self.prompt)

    def report(self) -> PieceProgress:
        """How far it has come."""
        return PieceProgress(self.index, self.seed, self.patches, self.text, self.sample)
