"""Regenerates official.hex: python3 official.py > official.hex (needs opentelemetry-proto, the classes of OpenTelemetry)."""

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

message = ExportTraceServiceRequest()
resource_spans = message.resource_spans.add()
attribute = resource_spans.resource.attributes.add(key="service.name")
attribute.value.string_value = "shop"
scope_spans = resource_spans.scope_spans.add()
scope_spans.scope.name, scope_spans.scope.version = "assay", "1.2.3"
span = scope_spans.spans.add(
    trace_id=bytes(range(16)),
    span_id=bytes(range(16, 24)),
    trace_state="vendor=1",
    parent_span_id=bytes(range(24, 32)),
    flags=0x301,
    name="POST /predict",
    kind="SPAN_KIND_SERVER",
    start_time_unix_nano=1_767_604_000_000_001_000,
    end_time_unix_nano=1_767_604_000_000_025_000,
    dropped_events_count=3,
)
for key, kind, value in [
    ("text", "string_value", "ü"),
    ("yes", "bool_value", True),
    ("number", "int_value", -7),
    ("share", "double_value", 0.25),
]:
    setattr(span.attributes.add(key=key).value, kind, value)
event = span.events.add(time_unix_nano=1_767_604_000_000_002_000, name="retry")
event.attributes.add(key="exception.message").value.string_value = "no"
span.links.add(trace_id=bytes(range(32, 48)), span_id=bytes(range(48, 56)), flags=1)
span.status.code, span.status.message = 2, "it broke"
print(message.SerializeToString(deterministic=True).hex())
