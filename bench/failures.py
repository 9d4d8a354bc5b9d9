"""What ends a benchmark with one sentence instead of a traceback."""


class BenchError(Exception):
    """The message is for whoever runs the benchmark."""
