"""Requests to stop: a signal becomes a flag, so that the loop can save before it ends."""

import signal
from types import FrameType
from typing import Any


class StopRequest:
    """Turns SIGTERM and SIGINT into a flag; a second signal ends the process at once."""

    def __init__(self) -> None:
        self.requested = False
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> "StopRequest":
        for number in (signal.SIGTERM, signal.SIGINT):
            # None: a handler that Python did not install, which it cannot put back either.
            self._previous[number] = signal.signal(number, self._handle) or signal.SIG_DFL
        return self

    def __exit__(self, *_: object) -> None:
        self._restore()

    def _handle(self, _number: int, _frame: FrameType | None) -> None:
        self.requested = True
        self._restore()

    def _restore(self) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
