"""Lines of progress with throughput and time to go, and the run's log file."""

import json
import sys
import time
from pathlib import Path
from typing import Any


def clock(seconds: float) -> str:
    """Seconds as h:mm:ss."""
    whole = max(int(seconds), 0)
    return f"{whole // 3600}:{whole // 60 % 60:02d}:{whole % 60:02d}"


class Progress:
    """Prints to standard error and appends every record to `log.jsonl` in the run folder."""

    def __init__(self, run: Path, first_step: int, steps: int) -> None:
        self.steps = steps
        self._first = first_step
        self._start = time.monotonic()
        run.mkdir(parents=True, exist_ok=True)
        self._log = (run / "log.jsonl").open("a", encoding="utf-8")

    def record(self, kind: str, step: int, **values: Any) -> None:
        """Append one JSON line: kind, step, seconds since the start of this process, values."""
        seconds = round(time.monotonic() - self._start, 3)
        self._log.write(json.dumps({"kind": kind, "step": step, "seconds": seconds, **values}) + "\n")
        self._log.flush()

    def training(self, step: int, metrics: dict[str, float], patches_per_second: float) -> None:
        """One line of progress: loss in bits a character, throughput and ETA."""
        done = step - self._first
        eta = (time.monotonic() - self._start) / max(done, 1) * (self.steps - step)
        self.record("train", step, patches_per_second=round(patches_per_second, 1), **metrics)
        self.say(
            f"step {step}/{self.steps}  {metrics['bits_per_char']:.4f} bits/char  "
            f"grad {metrics['grad_norm']:.3f}  {patches_per_second:.0f} patches/s  ETA {clock(eta)}"
        )

    @staticmethod
    def say(text: str) -> None:
        """One line on standard error."""
        print(text, file=sys.stderr, flush=True)

    def close(self) -> None:
        """Close the log file."""
        self._log.close()
