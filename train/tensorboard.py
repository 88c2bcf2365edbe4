"""TensorBoard's scalars, written at once: no thread that could hang where the disk is full."""

import time
from pathlib import Path

from notagen_jax.errors import NotaGenError


class Scalars:
    """An event file in a folder that `tensorboard --logdir` reads."""

    def __init__(self, folder: Path, first_step: int) -> None:
        """Begin a file; scalars of earlier files after `first_step` are hidden, they come again.

        Raises `NotaGenError` when the writer is not installed.
        """
        try:
            from tensorboardX.event_file_writer import EventsWriter
            from tensorboardX.proto import event_pb2, summary_pb2
        except ImportError as error:
            raise NotaGenError(
                "TensorBoard's scalars need tensorboardX: pip install 'notagen-jax[train]', or set "
                "tensorboard to False"
            ) from error
        self._event, self._summary = event_pb2.Event, summary_pb2.Summary
        folder.mkdir(parents=True, exist_ok=True)
        self._writer = EventsWriter(str(folder / "events"))
        restart = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
        event = self._event(wall_time=time.time(), step=first_step + 1, session_log=restart)
        self._writer.write_event(event)

    def write(self, step: int, values: dict[str, float]) -> None:
        """Add scalars by name, readable at once."""
        scalars = [self._summary.Value(tag=name, simple_value=value) for name, value in values.items()]
        summary = self._summary(value=scalars)
        self._writer.write_event(self._event(wall_time=time.time(), step=step, summary=summary))
        self._writer.flush()

    def close(self) -> None:
        """Close the file."""
        self._writer.close()
