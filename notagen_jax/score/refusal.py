"""Why a score is refused: one reason out of a small set, so that refusals can be counted."""

from notagen_jax.errors import NotaGenError


class ScoreError(NotaGenError):
    """A score that cannot be used.

    `reason` is the category (the same text for every score refused for it), `detail` what is
    particular to this score, `place` the file or piece. The message reads `place: reason (detail)`.
    """

    def __init__(self, reason: str, detail: str = "", place: str = "") -> None:
        self.reason, self.detail, self.place = reason, detail, place
        message = f"{reason} ({detail})" if detail else reason
        super().__init__(f"{place}: {message}" if place else message)

    def __reduce__(self) -> tuple[type["ScoreError"], tuple[str, str, str]]:
        # Refusals cross process borders; the default would pass only the joined message.
        return ScoreError, (self.reason, self.detail, self.place)

    def at(self, place: str) -> "ScoreError":
        """Return the same refusal with its place named."""
        return ScoreError(self.reason, self.detail, place)


def describe(error: BaseException) -> str:
    """One line for an exception of a third-party tool: its type, and its text where it has one."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:200]}" if text else type(error).__name__
