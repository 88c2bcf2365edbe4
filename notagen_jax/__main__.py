"""`python -m notagen_jax` is the `notagen` command."""

from notagen_jax.cli import main

if __name__ == "__main__":
    main()
