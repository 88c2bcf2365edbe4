"""Programs that several tests build are compiled once for all of them."""

import os

import jax
import pytest

from notagen_jax.compilation import enable_compilation_cache


@pytest.fixture(scope="session", autouse=True)
def compiled_once(tmp_path_factory):
    """Keep compiled programs for this session, in this process and those that tests start."""
    folder = enable_compilation_cache(
        None if "JAX_COMPILATION_CACHE_DIR" in os.environ else tmp_path_factory.mktemp("compiled")
    )
    os.environ["JAX_COMPILATION_CACHE_DIR"] = str(folder)
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
    os.environ["JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES"] = "-1"


@pytest.fixture(scope="module", autouse=True)
def programs_of_one_module():
    """Drop the programs of a module after its tests.

    Each maps pages of its own, and Linux ends a process that has mapped more than 65,530 of them.
    """
    yield
    jax.clear_caches()
