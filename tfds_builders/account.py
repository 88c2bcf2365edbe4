"""What became of every score that was offered: kept in a split, or dropped for a reason."""

from dataclasses import dataclass, field
from typing import Any


@dataclass
class Account:
    """`found == sum(kept) + sum(dropped)`, each dropped score named under its reason."""

    found: int = 0
    kept: dict[str, int] = field(default_factory=dict)
    dropped: dict[str, list[str]] = field(default_factory=dict)
    other_files: list[str] = field(default_factory=list)
    """Files that are no scores; they count nowhere."""

    def drop(self, reason: str, name: str, detail: str = "") -> None:
        """Count a score that gives no rows; `detail` is what is particular to it."""
        self.dropped.setdefault(reason, []).append(f"{name} ({detail})" if detail else name)

    def summary(self) -> str:
        """The reasons with their counts, on one line."""
        counts = sorted(((len(names), reason) for reason, names in self.dropped.items()), reverse=True)
        return ", ".join(f"{count} {reason}" for count, reason in counts)

    def report(self) -> dict[str, Any]:
        """The account as JSON-ready values."""
        return {
            "found": self.found,
            "kept": sum(self.kept.values()),
            "pieces_by_split": self.kept,
            "dropped": sum(map(len, self.dropped.values())),
            "dropped_by_reason": {
                reason: sorted(names)
                for reason, names in sorted(
                    self.dropped.items(), key=lambda entry: (-len(entry[1]), entry[0])
                )
            },
            "other_files": sorted(self.other_files),
        }
