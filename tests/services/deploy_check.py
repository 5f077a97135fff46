"""What a schema does not see in docker-compose.yml and in the manifests.

deploy_check.py compose ROOT ENV ASSAY         the services, with the variables of the file ENV
deploy_check.py kubernetes ASSAY FILE          the manifests that kustomize built
deploy_check.py context ROOT FOLDER            copies what the build context holds into FOLDER
deploy_check.py make ROOT ASSAY CALLS          the calls of Compose that the Makefile made, one a line
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import yaml

BINARY = ("assay-run", "assay-serve", "assay-feed", "assay")
SECRET = re.compile(r"PASSWORD|SECRET|ACCESS_KEY|API_KEY|SQL_ALCHEMY_CONN|MC_HOST")
REFERENCE = re.compile(r"\$\$|\$\{(\w+)(?::([-?])([^}]*))?\}")


def fail(*said: object) -> None:
    raise SystemExit(f"deploy_check.py: {' '.join(map(str, said))}")


def accepted(assay: str, arguments: list[str]) -> None:
    """The binary reads a command line from the left, so a flag that it does not know is refused before the help."""
    if not arguments or arguments[0].startswith("-"):
        fail("no job is named:", arguments)
    told = subprocess.run([assay, *arguments, "--help"], capture_output=True, text=True)
    if told.returncode or f" {arguments[0]} " not in told.stdout:
        fail(f"assay {shlex.join(arguments)} is refused:", told.stderr or told.stdout[:200])


def settings_known(assay: str, name: str, environment: dict[str, str]) -> None:
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("ASSAY_", "AWS_"))}
    told = subprocess.run([assay, "settings"], env={**clean, **environment}, capture_output=True, text=True)
    if told.returncode:
        fail(f"{name}: its settings are refused:", told.stderr)


def variables(file: Path) -> dict[str, str]:
    lines = [line for line in file.read_text().splitlines() if line and not line.startswith("#")]
    return dict(line.split("=", 1) for line in lines)


def compose(root: Path, env: Path, assay: str) -> None:
    given, named = variables(env), set()

    def value(match: re.Match[str]) -> str:
        if match.group(0) == "$$":
            return "$"
        named.add(match.group(1))
        found = given.get(match.group(1), "")
        if not found and match.group(2) == "?":
            fail(f"{match.group(1)} is needed and .env does not give it")
        return found or (match.group(3) or "" if match.group(2) == "-" else "")

    def filled(node: object) -> object:
        """Compose fills in after it has parsed: what comes from a variable is text."""
        if isinstance(node, dict):
            return {key: filled(item) for key, item in node.items()}
        if isinstance(node, list):
            return [filled(item) for item in node]
        return REFERENCE.sub(value, node) if isinstance(node, str) else node

    raw = yaml.safe_load((root / "docker-compose.yml").read_text())
    spec = filled(raw)
    if named != set(given):
        fail("in one of .env.example and docker-compose.yml only:", named ^ set(given))
    for name, service in spec["services"].items():
        one_shot = service.get("restart") == "no" or "profiles" in service
        tag = service["image"].rpartition(":")[2]
        if "/" in tag or tag in ("", "latest") or not re.search(r"\d|^dev$", tag):
            fail(f"{name}: {service['image']} is not pinned")
        health = service.get("healthcheck", {})
        if bool(health.get("test")) == one_shot:
            fail(f"{name}: a service needs a health check, and what ends needs none")
        limits = service.get("deploy", {}).get("resources", {}).get("limits", {})
        if set(limits) != {"cpus", "memory"}:
            fail(f"{name}: limits are {limits}")
        for port in service.get("ports", []):
            if not port.startswith("127.0.0.1:"):
                fail(f"{name}: {port} is open to other machines")
        for mount in service.get("volumes", []):
            source = mount.split(":")[0]
            if source.startswith(".") and not (root / source).exists():
                fail(f"{name}: there is no {source}")
            if not source.startswith((".", "/")) and source not in spec["volumes"]:
                fail(f"{name}: {source} is no volume")
        for other, how in service.get("depends_on", {}).items():
            wanted = "service_completed_successfully" if spec["services"][other].get("restart") == "no" else "service_healthy"
            if how["condition"] != wanted:
                fail(f"{name}: {other} cannot become {how['condition']}")
        for key, text_of in raw["services"][name].get("environment", {}).items():
            if SECRET.search(key) and "FILE" not in key and "${" not in str(text_of):
                fail(f"{name}: the secret {key} stands in the file")
        if name in BINARY:
            if not (service["read_only"] and service["cap_drop"] == ["ALL"]):
                fail(f"{name}: it may do more than it needs")
            if "command" in service:
                accepted(assay, service["command"])
        if name.startswith(("assay", "airflow")):
            settings_known(assay, name, {k: v for k, v in service["environment"].items() if k.startswith(("ASSAY_", "AWS_"))})
    misspelt = {"ASSAY_KAFKA_BROKER": "x"}
    if subprocess.run([assay, "settings"], env={**os.environ, **misspelt}, capture_output=True).returncode != 2:
        fail("a misspelt setting is not seen")
    if spec["services"]["assay-run"].get("container_name") != "assay-run":
        fail("nothing keeps Compose from starting a second writer")
    scraped(root, spec["services"])
    print("health:" + spec["services"]["assay-run"]["healthcheck"]["test"][-1])
    for name in sorted(key for key in spec["services"]["airflow-api"]["environment"] if key.startswith("AIRFLOW__")):
        print("airflow:" + name)


def scraped(root: Path, services: dict) -> None:
    config = yaml.safe_load((root / "grafana/prometheus/prometheus.yml").read_text())
    for job in config["scrape_configs"]:
        for group in job.get("static_configs", []):
            for target in group["targets"]:
                if target.split(":")[0] not in {*services, "localhost"}:
                    fail(f"Prometheus is to scrape {target}, which is no service")


def kubernetes(assay: str, file: Path) -> None:
    documents = [document for document in yaml.safe_load_all(file.read_text()) if document]
    settings = {d["metadata"]["name"]: d["data"] for d in documents if d["kind"] == "ConfigMap"}
    labels, selectors, probes = [], [], set()
    for document in documents:
        kind, name, spec = document["kind"], document["metadata"]["name"], document.get("spec", {})
        template = spec.get("jobTemplate", {}).get("spec", spec).get("template")
        if kind in ("Service", "PodDisruptionBudget"):
            selector = spec["selector"]
            selectors.append((kind, name, selector.get("matchLabels", selector)))
        if name == "assay-run" and kind not in ("Service",) and (kind, spec["replicas"]) != ("StatefulSet", 1):
            fail(f"assay-run is a {kind} of {spec['replicas']}: the lake has one writer")
        if not template:
            continue
        labels.append(template["metadata"]["labels"])
        pod, [container] = template["spec"], template["spec"]["containers"]
        accepted(assay, container["args"])
        reference = container["envFrom"][0]["configMapRef"]["name"]
        settings_known(assay, name, settings[reference])
        security = container["securityContext"]
        if not (pod["securityContext"]["runAsNonRoot"] and security["readOnlyRootFilesystem"]):
            fail(f"{name}: it may do more than it needs")
        mounted = {mount["name"] for mount in container["volumeMounts"]}
        if mounted != {volume["name"] for volume in pod["volumes"]}:
            fail(f"{name}: volumes and mounts differ")
        for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
            if kind != "CronJob":
                probes.add(container[probe]["httpGet"]["path"])
    for kind, name, selector in selectors:
        if not any(selector.items() <= found.items() for found in labels):
            fail(f"{kind} {name} selects no pod")
    print(*(f"probe:{path}" for path in sorted(probes)), sep="\n")


def context(root: Path, folder: Path) -> None:
    rules = [line for line in (root / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")]
    for rule in rules:
        if not rule.startswith("!"):
            continue
        source, target = root / rule[1:], folder / rule[1:]
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__", "target"))
        else:
            shutil.copy(source, target)
    for line in (root / "Dockerfile").read_text().splitlines():
        if line.startswith("COPY ") and "--from" not in line and not (folder / line.split()[1]).exists():
            fail(f"the context has no {line.split()[1]}")
    for file in [*folder.glob("src/**/*.rs"), *folder.glob("jobs/**/*.rs")]:
        for included in re.findall(r'include_(?:str|bytes)!\("([^"]+)"\)', file.read_text()):
            if not (file.parent / included).resolve().exists():
                fail(f"{file.relative_to(folder)} includes {included}, which the context has not")


def made(root: Path, assay: str, calls: Path) -> None:
    services = yaml.safe_load(re.sub(REFERENCE, "x", (root / "docker-compose.yml").read_text()))["services"]
    for line in calls.read_text().splitlines():
        command, *rest = shlex.split(line)
        if command == "run":
            if rest[:2] != ["--rm", "assay"]:
                fail("not a job:", line)
            accepted(assay, rest[2:])
            continue
        for word in rest:
            if not word.startswith("-") and not word.isdigit() and word not in services:
                fail(f"docker compose {line}: {word} is no service")


if __name__ == "__main__":
    job, *rest = sys.argv[1:]
    if job == "compose":
        compose(Path(rest[0]), Path(rest[1]), rest[2])
    elif job == "kubernetes":
        kubernetes(rest[0], Path(rest[1]))
    elif job == "context":
        context(Path(rest[0]), Path(rest[1]))
    else:
        made(Path(rest[0]), rest[1], Path(rest[2]))
