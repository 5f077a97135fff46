# syntax=docker/dockerfile:1
# assay:   the binary alone. It runs as a user without rights, with a read-only root.
# airflow: Airflow with the DAGs and the binary.

FROM rust:1.91.1-bookworm AS build
WORKDIR /src
COPY . .
# Kafka over TLS or SASL: --build-arg FEATURES=s3,kafka-tls
ARG FEATURES=s3
RUN --mount=type=cache,target=/usr/local/cargo/registry --mount=type=cache,target=/src/target \
    cargo build --release --locked --bin assay --no-default-features --features "$FEATURES" \
    && cp target/release/assay /assay

# Empty folders with the owner that a new volume takes over.
FROM debian:12.12-slim AS state
RUN install -d -o 10001 -g 0 -m 0770 /state/assay /state/assay/models /state/assay/metrics /state/airflow

FROM debian:12.12-slim AS assay
LABEL org.opencontainers.image.title="assay" org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build /assay /usr/local/bin/assay
COPY --from=state /state/assay /var/lib/assay
# Group 0, so that a platform that picks the user (OpenShift) can pick any.
USER 10001:0
WORKDIR /var/lib/assay
EXPOSE 9464
ENTRYPOINT ["/usr/local/bin/assay"]
CMD ["--help"]

FROM apache/airflow:3.3.2-python3.12 AS airflow
COPY --from=build /assay /usr/local/bin/assay
# The user of assay, since both write models.
COPY --from=state /state/assay /var/lib/assay
COPY --from=state /state/airflow /var/lib/airflow
COPY airflow/dags /opt/airflow/dags
COPY airflow/plugins /opt/airflow/plugins
USER 10001:0
