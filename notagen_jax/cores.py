"""How many cores this process may use."""

import os


def usable_cores() -> int:
    """Cores that the system lets this process run on; all of the machine's where it cannot be asked."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
