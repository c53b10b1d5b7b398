"""OpenTelemetry spans, one a request, as the child of the caller's where its `traceparent` header says so.

Where spans go is said by the standard variables, such as OTEL_EXPORTER_OTLP_ENDPOINT. No text of a prompt or a reply is
in them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from s1kit.errors import MissingExtra


class Span(Protocol):
    """The methods of an OpenTelemetry span that are used."""

    def set_attributes(self, attributes: Mapping[str, Any]) -> None: ...
    def end(self) -> None: ...


class Tracer(Protocol):
    """Starts the span of one request."""

    def start(self, name: str, headers: Mapping[str, str]) -> Span: ...


class OpenTelemetry:
    """Starts spans with the OpenTelemetry SDK. Raises MissingExtra."""

    def __init__(self, provider: Any = None) -> None:
        try:
            from opentelemetry import trace
            from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

            self._provider = provider or _provider()
        except ModuleNotFoundError as error:
            raise MissingExtra("--otel", "opentelemetry-sdk", extra="otel") from error
        self._propagator = TraceContextTextMapPropagator()
        self._kind = trace.SpanKind.SERVER
        self._tracer = self._provider.get_tracer("s1kit")

    def start(self, name: str, headers: Mapping[str, str]) -> Span:
        span: Span = self._tracer.start_span(name, self._propagator.extract(dict(headers)), self._kind)
        return span

    def close(self) -> None:
        """Send what is not yet sent."""
        self._provider.shutdown()


def _provider() -> Any:
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    provider = TracerProvider(resource=Resource.create({"service.name": "s1kit"}))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return provider
