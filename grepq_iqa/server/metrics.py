"""What the server counts, for Prometheus. A registry of its own: two servers in one process do not mix."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_PICTURES = (1, 2, 4, 8, 16, 32)


class Metrics:
    """Counters and histograms; labels take few values only, whatever clients send."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter("grepq_requests", "Requests answered.", ["route", "status"], registry=self.registry)
        self.request_seconds = Histogram(
            "grepq_request_seconds",
            "From head to end of the answer.",
            ["route"],
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.pictures = Counter(
            "grepq_pictures", "Pictures scored, and those that could not be.", ["outcome"], registry=self.registry
        )
        self.decode_seconds = Histogram(
            "grepq_decode_seconds", "Decoding a picture.", buckets=_SECONDS, registry=self.registry
        )
        self.model_seconds = Histogram(
            "grepq_model_seconds", "A pass of the model.", buckets=_SECONDS, registry=self.registry
        )
        self.batch_size = Histogram(
            "grepq_batch_pictures", "Pictures in a pass.", buckets=_PICTURES, registry=self.registry
        )
        self.refused = Counter("grepq_refused", "Requests refused, by why.", ["reason"], registry=self.registry)
        self._occupied = Gauge("grepq_queue_pictures", "Pictures that wait or are worked on.", registry=self.registry)

    def watch_queue(self, occupied: Callable[[], int]) -> None:
        """Ask ``occupied`` whenever metrics are read."""
        self._occupied.set_function(occupied)

    def text(self) -> bytes:
        """In Prometheus' format."""
        return generate_latest(self.registry)
