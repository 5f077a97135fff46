#!/usr/bin/env bash
# Deployment without a container engine: schemas of docker-compose.yml and of the manifests, every command line and setting
# against the binary, health checks against a running one, the binary as another user on a read-only root, the Dockerfile
# and its context, and the Makefile with a Compose that only notes what it is told.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/e2e.sh"

PYTHON="$("$SERVICES_DIR/python" deploy)" || exit $?
AIRFLOW="$("$SERVICES_DIR/python" airflow)" || exit $?
BIN="$(dirname "$PYTHON")"
need make make
need curl curl
check() { "$PYTHON" "$SERVICES_DIR/deploy_check.py" "$@"; }
ok() { say "ok    $*"; }

deploy/env >"$WORK/env"
! grep -q '=<secret>' "$WORK/env" || die ".env has a secret that is none"
[ -z "$(grep -E '=[0-9a-f]{48}$' "$WORK/env" | cut -d = -f 2 | sort | uniq -d)" ] || die ".env has a secret twice"
"$BIN/check-jsonschema" --builtin-schema vendor.compose-spec docker-compose.yml >&2
check compose "$ROOT" "$WORK/env" "$ASSAY" >"$WORK/compose"
ok "docker-compose.yml: schema, services, command lines, settings"
sed -n 's/^airflow://p' "$WORK/compose" | AIRFLOW_HOME="$WORK/airflow" "$AIRFLOW" -c '
import sys
from airflow.configuration import conf
from airflow.providers_manager import ProvidersManager
ProvidersManager().initialize_providers_configuration()
known = conf.configuration_description
for name in sys.stdin.read().split():
    section, option = name.removeprefix("AIRFLOW__").lower().split("__")
    assert option in known.get(section, {}).get("options", {}), f"Airflow has no setting {name}"
' >"$WORK/airflow.log" 2>&1 || { log_end airflow && die "a setting of Airflow is not known"; }
ok "settings of Airflow"
"$BIN/hadolint" Dockerfile
check context "$ROOT" "$WORK/context"
if command -v cargo >/dev/null 2>&1; then
  (cd "$WORK/context" && cargo metadata --offline --locked --no-deps --format-version 1 >/dev/null) || die "cargo cannot read the context"
fi
ok "Dockerfile and its context"

for kustomize in "kubectl kustomize" "kustomize build" ""; do
  [ -n "$kustomize" ] || skip "neither kubectl nor kustomize is there to build the manifests"
  ! ${kustomize%% *} ${kustomize##* } --help >/dev/null 2>&1 || break
done
for folder in base example; do
  $kustomize "deploy/kubernetes/$folder" >"$WORK/$folder.yaml"
  "$BIN/kubernetes-validate" --strict --quiet "$WORK/$folder.yaml"
  check kubernetes "$ASSAY" "$WORK/$folder.yaml" >"$WORK/$folder.probes"
done
ok "manifests: schema, command lines, settings, one writer"

# As Compose and Kubernetes ask: no broker is needed for the process to be alive.
for job in run serve; do
  PORT="$(free_port)"
  ASSAY_KAFKA_BROKERS=127.0.0.1:1 ASSAY_SERVE_API_KEY=key ASSAY_MODEL_FOLDER="$WORK/models" background "$job" "$ASSAY" "$job" --lake "$LAKE" --http "0.0.0.0:$PORT"
  SERVER=$CHILD
  until_listening "$SERVER" "$PORT" "$job"
  sed -n 's/^health://p' "$WORK/compose" | sed "s/9464/$PORT/" >"$WORK/health"
  bash "$WORK/health" || die "the health check of $job fails on a process that is alive"
  while IFS= read -r path; do
    code="$(curl -s -o /dev/null -w '%{http_code}' "http://127.0.0.1:$PORT$path")"
    [ "$code" = 200 ] || { [ "$path" = /ready ] && [ "$code" = 503 ]; } || die "$job answers $path with $code"
  done < <(sed -n 's/^probe://p' "$WORK/base.probes")
  kill -s TERM "$SERVER"
  finish "$SERVER" 30 "$job"
  ! bash "$WORK/health" 2>/dev/null || die "the health check of $job holds without a process"
done
ok "health checks and probes"

if [ "$(id -u)" -eq 0 ] && unshare -m true 2>/dev/null && command -v setpriv >/dev/null 2>&1; then
  unshare -m bash -euc '
    mount -t tmpfs -o size=1g tmpfs /mnt
    cp "$1" /mnt/assay
    install -d -o 10001 /mnt/state
    mount -o remount,ro,bind /
    ! touch /usr/writable 2>/dev/null
    cd /mnt/state
    exec setpriv --reuid 10001 --regid 0 --clear-groups --no-new-privs --bounding-set=-all \
      env -i PATH=/usr/bin /mnt/assay demo --events 2000 --lake /mnt/state/lake --json' - "$ASSAY" >"$WORK/demo.log" 2>&1 ||
    { log_end demo && die "assay does not run without rights on a read-only root"; }
  ok "another user, no capabilities, a read-only root"
else
  say "not tried: a read-only root wants root and unshare"
fi

# A copy, so that no .env of the user is touched.
mkdir -p "$WORK/copy"
cp -r Makefile .env.example deploy "$WORK/copy"
printf '#!/bin/sh\nprintf "%%s\\n" "$*" >>"%s"\n' "$WORK/calls" >"$WORK/compose-notes"
chmod +x "$WORK/compose-notes"
make="make -s -C $WORK/copy COMPOSE=$WORK/compose-notes ASSAY=$ASSAY"
$make help >"$WORK/help"
for target in $(sed -n 's/^\.PHONY: //p' Makefile); do
  make -n -C "$WORK/copy" "$target" >/dev/null || die "make -n $target"
  grep -q "^  $target " "$WORK/help" || die "make help does not tell of $target"
done
for target in up seed run train serve drift-check replay warehouse verify logs down; do $make "$target" SERVICE=assay-run; done
[ "$(stat -c %a "$WORK/copy/.env")" = 600 ] || die ".env can be read by others"
before="$(sha256sum <"$WORK/copy/.env")"
touch "$WORK/copy/.env.example"
$make up
[ "$before" = "$(sha256sum <"$WORK/copy/.env")" ] || die "make .env overwrites what is there"
ASSAY_LAKE_LOCATION="$WORK/made" $make demo EVENTS=2000 >"$WORK/make-demo.log" 2>&1 || { log_end make-demo && die "make demo failed"; }
$make test-latency ASSAY="$WORK/compose-notes run --rm assay" BENCH="--seconds 1 --rate 200"
check make "$ROOT" "$ASSAY" "$WORK/calls"
! $make health >"$WORK/health.log" 2>&1 || die "make health holds with nothing there"
PORT="$(free_port)"
mkdir -p "$WORK/answers"
background answers python3 -c 'import http.server, sys
class Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.end_headers()
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Answer).serve_forever()' "$PORT"
ANSWERS=$CHILD
sed -i "s/_PORT=.*/_PORT=$PORT/" "$WORK/copy/.env"
for _ in $(seq 50); do ! listening "$PORT" || break; sleep 0.1; done
$make health >"$WORK/health.log" 2>&1 || { log_end health && die "make health fails with everything there"; }
kill "$ANSWERS"
wait "$ANSWERS" 2>/dev/null || true
ok "Makefile"
# Of what telemetry documents its own tests tell that it is there.
sed -n '/^## Deploying/,/^## What bad/p' README.md | grep -oE 'assay_[a-z]+_?[a-z_]*' | sort -u | grep -vE '^assay_(refine|verify|train|drift)$' >"$WORK/metrics"
[ -s "$WORK/metrics" ] || die "the runbook names no metrics"
while IFS= read -r metric; do
  grep -q "| \`$metric\` |" src/telemetry/mod.rs || die "the runbook names $metric, which is no metric"
done <"$WORK/metrics"
ok "metrics of the runbook"
say "deploy: all held"
