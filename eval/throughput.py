"""Speed beside PyTorch: `python -m eval.throughput sample`, `… train` and `… features`."""

import sys

import tyro

from eval import feature_throughput, sample_throughput, train_throughput
from notagen_jax.errors import NotaGenError


def main() -> None:
    """Run one benchmark and exit: 1 with one message on a mendable error."""
    options = tyro.extras.subcommand_cli_from_dict(
        {
            "sample": sample_throughput.SampleThroughput,
            "train": train_throughput.TrainThroughput,
            "features": feature_throughput.FeatureThroughput,
        },
        prog="python -m eval.throughput",
        description=__doc__,
    )
    try:
        if isinstance(options, feature_throughput.FeatureThroughput):
            feature_throughput.run(options)
        elif isinstance(options, train_throughput.TrainThroughput):
            train_throughput.run(options)
        else:
            sample_throughput.run(options)
    except NotaGenError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
