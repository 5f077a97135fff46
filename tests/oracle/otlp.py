"""A receiver of OpenTelemetry's protocol over HTTP that decodes with OpenTelemetry's own classes, and keeps each span as a
line of JSON. What those classes do not know is refused, and the test that asks for the lines fails."""

import argparse
import gzip
import http.server
import json
import threading

from google.protobuf.json_format import MessageToDict
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

LOCK = threading.Lock()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--out", required=True)
    parser.add_argument("--token", help="what the header Authorization must be")
    args = parser.parse_args()
    http.server.ThreadingHTTPServer(("127.0.0.1", args.port), handler(args)).serve_forever()


def handler(args):
    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.path != "/v1/traces" or self.headers["Content-Type"] != "application/x-protobuf":
                return self.answer(400, f"{self.path} {self.headers['Content-Type']}".encode())
            if args.token and self.headers["Authorization"] != args.token:
                return self.answer(401, b"who are you?")
            if self.headers.get("Content-Encoding") == "gzip":
                body = gzip.decompress(body)
            message = ExportTraceServiceRequest()
            message.ParseFromString(body)
            lines = list(spans(message))
            with LOCK, open(args.out, "a") as out:
                out.writelines(json.dumps(line) + "\n" for line in lines)
            self.answer(200, ExportTraceServiceResponse().SerializeToString())

        def answer(self, status, body):
            self.send_response(status)
            self.send_header("Content-Type", "application/x-protobuf")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    return Handler


def spans(message):
    for of_resource in message.resource_spans:
        resource = attributes(of_resource.resource.attributes)
        for of_scope in of_resource.scope_spans:
            for span in of_scope.spans:
                known = MessageToDict(span)
                # Fields that the official classes do not know would be a message of another protocol.
                assert not unknown(span), known
                yield {
                    "resource": resource,
                    "scope": of_scope.scope.name,
                    "trace": span.trace_id.hex(),
                    "span": span.span_id.hex(),
                    "parent": span.parent_span_id.hex(),
                    "state": span.trace_state,
                    "flags": span.flags,
                    "name": span.name,
                    "kind": known.get("kind", ""),
                    "began": span.start_time_unix_nano,
                    "ended": span.end_time_unix_nano,
                    "attributes": attributes(span.attributes),
                    "events": [{"name": event.name, "at": event.time_unix_nano, **attributes(event.attributes)} for event in span.events],
                    "links": [{"trace": link.trace_id.hex(), "span": link.span_id.hex()} for link in span.links],
                    "status": span.status.code,
                    "message": span.status.message,
                }


def unknown(span):
    from google.protobuf import unknown_fields

    return list(unknown_fields.UnknownFieldSet(span))


def attributes(pairs):
    return {pair.key: getattr(pair.value, pair.value.WhichOneof("value")) for pair in pairs}


if __name__ == "__main__":
    main()
