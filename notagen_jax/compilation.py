"""Compiled programs kept on disk, so that the second start does not compile again."""

import os
from pathlib import Path

import jax


def enable_compilation_cache(folder: Path | None = None) -> Path | None:
    """Keep compiled programs in `folder`, by default `notagen-jax` in the user's cache folder.

    A folder already set (by JAX_COMPILATION_CACHE_DIR or in `jax.config`) stays. Call it before the
    first compilation. Returns the folder in use, or None where none can be made: then everything
    works, and each start compiles.
    """
    if folder is None:
        chosen = jax.config.jax_compilation_cache_dir  # type: ignore[attr-defined]
        if chosen:
            return Path(chosen)
        base = os.environ.get("XDG_CACHE_HOME", "")
        # The XDG rules say that a relative path is to be ignored.
        folder = (Path(base) if os.path.isabs(base) else Path.home() / ".cache") / "notagen-jax"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return None
    jax.config.update("jax_compilation_cache_dir", str(folder))
    # A start runs many small programs, whose compile times add up; keep those too.
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
    return folder
