"""The server that is put under load: the one of all benchmarks, by the name that the harness knows it by."""

from benchmarks.server import Server, serving

__all__ = ["Server", "serving"]
