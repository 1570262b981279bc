"""What each system is started with, and what it is once it is up."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from proxies import THREADS, Server
from store import Sink

# For programs in Go, which have a thread for each processor.
GO = {"GOMAXPROCS": str(THREADS)}


@dataclass
class Place:
    """What every system is started with."""

    folder: Path
    sink: Sink
    # The programs, by name.
    tools: dict

    def address(self, way=""):
        """Of the sink, as host and port; by TLS under the name in its certificate."""
        return (self.sink.s3_tls if way == "tls" else self.sink.s3).partition("://")[2]


@dataclass
class Up:
    """A system: which port to ask, below which path, and where the sink has what came."""

    server: Server
    path: str
    stored: str
    sealed: bool = False
    # For large bodies, where that is another port.
    large: int = 0
    token: str = ""
    # Waits for more than that it listens.
    ready: Callable = lambda: None

    def __enter__(self):
        self.server.__enter__()
        try:
            self.ready()
        except BaseException:
            self.server.__exit__()
            raise
        return self

    def __exit__(self, *_):
        self.server.__exit__()

    @property
    def pid(self):
        return self.server.pid

    def port(self, large):
        return self.large if large and self.large else self.server.port
