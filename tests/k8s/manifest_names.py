"""Names in manifests against the code: what a cluster is told must exist. Each check yields what does not."""

import itertools
import re
from collections.abc import Iterator
from pathlib import Path

import click
from rendered_manifests import HOUSE, Manifest, containers, pod_specs

from app.metrics import Metrics
from app.rank_route import RankRoute
from app.routes import router
from app.settings import SettingsError, read_settings
from frontrow import main

SERVICE = "frontrow"


def image_environment(dockerfile: Path = HOUSE / "Dockerfile") -> dict[str, str]:
    """The settings that the image itself has."""
    return dict(re.findall(r"\b(FRONTROW_[A-Z_]+)=([^\s$\\]+)", dockerfile.read_text()))


def settings_of(pod: Manifest) -> dict[str, str]:
    (container,) = (one for one in containers(pod) if one["name"] == SERVICE)
    return image_environment() | {entry["name"]: entry["value"] for entry in container.get("env", [])}


def unknown_settings(documents: list[Manifest]) -> Iterator[str]:
    """Settings that the service would refuse to start with."""
    for pod in _service_pods(documents):
        try:
            read_settings({name: value for name, value in settings_of(pod).items() if name.startswith("FRONTROW_")})
        except SettingsError as error:
            yield str(error)
        yield from _refused_values(settings_of(pod))


def _refused_values(settings: dict[str, str]) -> Iterator[str]:
    from app.settings import variables

    overrides = {variables()[name]: value for name, value in settings.items() if name in variables()}
    try:
        read_settings({}, **overrides)
    except SettingsError as error:
        yield str(error)


def unknown_paths(documents: list[Manifest]) -> Iterator[str]:
    """Paths of probes and scrapes that no route has."""
    known = {getattr(route, "path", None) for route in router.routes} | {RankRoute.path}
    asked = [probe["httpGet"]["path"] for _, probe in _probes(documents)]
    asked += [endpoint["path"] for document in documents for endpoint in document.get("spec", {}).get("endpoints", [])]
    yield from (path for path in asked if path not in known)


def unknown_ports(documents: list[Manifest]) -> Iterator[str]:
    """Ports that nothing listens on: the service's own is a setting, everything else names it."""
    names = set()
    for pod in _service_pods(documents):
        for container, port in ((one, port) for one in containers(pod) for port in one.get("ports", [])):
            names.add(port["name"])
            if str(port["containerPort"]) != settings_of(pod)["FRONTROW_PORT"]:
                yield f"{container['name']}: containerPort {port['containerPort']}"
    for name, probe in _probes(documents):
        if probe["httpGet"]["port"] not in names:
            yield f"{name}: port {probe['httpGet']['port']}"
    yield from (f"{what}: port {port}" for what, port in _ports_by_name(documents) if port not in names)


def unknown_metrics(text: str) -> Iterator[str]:
    """Metrics of ours anywhere in manifests that the service does not have."""
    families = re.findall(r"# TYPE (\S+)", Metrics(["control", "treatment"]).exposition().decode())
    known = {family + suffix for family in families for suffix in ("", "_bucket", "_count", "_sum")}
    yield from sorted(set(re.findall(r"\bfrontrow_[a-z_]+[a-z]\b", text)) - known)


def unknown_commands(documents: list[Manifest]) -> Iterator[str]:
    """Command lines of ours that the door does not know: subcommand, then options as `--name=value`."""
    for pod in pod_specs(documents):
        for container in containers(pod):
            if container["image"].startswith("frontrow"):
                yield from _unknown_words(container.get("args", []))


def selectors_that_miss(documents: list[Manifest]) -> Iterator[str]:
    """Selectors of Service, budget, policy and monitor that match no pod or Service here."""
    labelled = [pod["labels"] for pod in _pod_metadata(documents)]
    services = [one["metadata"]["labels"] for one in documents if one["kind"] == "Service"]
    for document in documents:
        spec, kind = document.get("spec", {}), document["kind"]
        selector = spec.get("podSelector") or spec.get("selector") or {}
        wanted = selector.get("matchLabels", selector)
        offered = services if kind == "ServiceMonitor" else labelled
        if wanted and not any(wanted.items() <= labels.items() for labels in offered):
            yield f"{kind} {document['metadata']['name']}: {wanted}"


def _unknown_words(words: list[str]) -> Iterator[str]:
    command: click.Command = main
    for word in itertools.takewhile(lambda word: not word.startswith("-"), words):
        found = command.get_command(click.Context(command), word) if isinstance(command, click.Group) else None
        if found is None:
            yield f"frontrow {' '.join(words)}: no command {word}"
            return
        command = found
    known = {option for parameter in command.params for option in parameter.opts}
    for word in words:
        if word.startswith("-") and word.partition("=")[0] not in known:
            yield f"frontrow {command.name}: no option {word}"


def _service_pods(documents: list[Manifest]) -> Iterator[Manifest]:
    for pod in pod_specs(documents):
        if any(container["name"] == SERVICE for container in containers(pod)):
            yield pod


def _pod_metadata(value: object) -> Iterator[Manifest]:
    if isinstance(value, dict):
        if isinstance(value.get("spec"), dict) and "containers" in value["spec"]:
            yield value["metadata"]
        for inner in value.values():
            yield from _pod_metadata(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _pod_metadata(inner)


def _probes(documents: list[Manifest]) -> Iterator[tuple[str, Manifest]]:
    for pod in pod_specs(documents):
        for container in containers(pod):
            for kind in ("startupProbe", "readinessProbe", "livenessProbe"):
                if kind in container:
                    yield f"{container['name']} {kind}", container[kind]


def _ports_by_name(documents: list[Manifest]) -> Iterator[tuple[str, str]]:
    """Everything that names a port of the service, and the name; numbers are of other people's services."""
    for document in documents:
        spec = document.get("spec", {})
        what = f"{document['kind']} {document['metadata']['name']}"
        if document["kind"] == "Service":
            yield from ((what, port["targetPort"]) for port in spec["ports"])
        if document["kind"] == "ServiceMonitor":
            yield from ((what, endpoint["port"]) for endpoint in spec["endpoints"])
        if document["kind"] == "NetworkPolicy":
            for rule in spec.get("ingress", []):
                yield from ((what, port["port"]) for port in rule["ports"])
