"""Every overlay renders, is valid, and names nothing that the code does not have."""

import copy
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import kubernetes_validate
import pytest
import yaml
from click.testing import CliRunner
from manifest_names import (
    image_environment,
    selectors_that_miss,
    settings_of,
    unknown_commands,
    unknown_metrics,
    unknown_paths,
    unknown_ports,
    unknown_settings,
)
from rendered_manifests import HOUSE, RENDERED, Manifest, manifests, of_kind, pod_specs, rendered_text

from app.settings import Settings
from release.cli import release

KUBERNETES = ("1.35", "1.36", "1.37")
# Resources of operators: Kubernetes has no schema for them; the pods inside are validated all the same.
OF_OPERATORS = {"ServiceMonitor", "PrometheusRule", "Rollout", "AnalysisTemplate"}

Check = Callable[[list[Manifest]], Iterator[str]]
CHECKS: tuple[Check, ...] = (unknown_settings, unknown_paths, unknown_ports, unknown_commands, selectors_that_miss)


def jobs(documents: list[Manifest]) -> Iterator[Manifest]:
    """The jobs inside analysis templates, as jobs."""
    for document in documents:
        if document["kind"] == "AnalysisTemplate":
            for metric in document["spec"]["metrics"]:
                spec = metric["provider"]["job"]["spec"]
                yield {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": metric["name"]}, "spec": spec}


@pytest.mark.parametrize("version", KUBERNETES)
@pytest.mark.parametrize("folder", RENDERED)
def test_every_resource_is_valid_to_the_letter(folder: str, version: str) -> None:
    documents = manifests(folder)
    of_kubernetes = [document for document in documents if document["kind"] not in OF_OPERATORS]

    for document in [*of_kubernetes, *jobs(documents)]:
        kubernetes_validate.validate(document, version, strict=True)


def test_a_misspelled_field_is_not_valid() -> None:
    deployment = of_kind(manifests("base"), "Deployment")
    deployment["spec"]["template"]["spec"]["containers"][0]["readynessProbe"] = {}

    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(deployment, KUBERNETES[0], strict=True)


def test_only_resources_of_operators_go_without_a_schema() -> None:
    for folder in RENDERED:
        for document in manifests(folder):
            of_an_operator = document["apiVersion"].partition("/")[0] in ("monitoring.coreos.com", "argoproj.io")
            assert (document["kind"] in OF_OPERATORS) == of_an_operator


@pytest.mark.parametrize("folder", RENDERED)
@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_every_name_in_a_manifest_exists(folder: str, check: Check) -> None:
    assert list(check(manifests(folder))) == []


@pytest.mark.parametrize("folder", RENDERED)
def test_every_metric_in_a_manifest_exists(folder: str) -> None:
    assert list(unknown_metrics(rendered_text(folder))) == []


@pytest.mark.parametrize(
    ("check", "right", "wrong"),
    [
        (unknown_settings, "FRONTROW_LAME_DUCK_SECONDS", "FRONTROW_LAME_DUCK_SECOND"),
        (unknown_settings, "value: '10'", "value: ten"),
        (unknown_settings, "value: '10'", "value: '121'"),
        (unknown_paths, "path: /readyz", "path: /ready"),
        (unknown_paths, "path: /metrics", "path: /prometheus"),
        (unknown_ports, "containerPort: 8000", "containerPort: 8080"),
        (unknown_ports, "port: http", "port: web"),
        (unknown_ports, "targetPort: http", "targetPort: web"),
        (unknown_commands, "- judge\n", "- jury\n"),
        (unknown_commands, "- --prometheus=", "- --prometeus="),
        (selectors_that_miss, "selector:\n    app.kubernetes.io/name: frontrow", "selector:\n    app: frontrow"),
    ],
)
def test_a_wrong_name_is_found(check: Check, right: str, wrong: str) -> None:
    text = yaml.safe_dump_all(manifests("overlays/production"))
    assert right in text

    assert list(check(list(yaml.safe_load_all(text.replace(right, wrong)))))


def test_a_metric_that_is_none_is_found() -> None:
    text = rendered_text("base").replace("frontrow_offered_utilization", "frontrow_offered_utilisation")

    assert list(unknown_metrics(text)) == ["frontrow_offered_utilisation"]


@pytest.mark.parametrize("folder", RENDERED)
def test_the_grace_is_longer_than_everything_that_happens_in_it(folder: str) -> None:
    pod = deployed_pod(folder)
    settings = settings_of(pod)
    stop = pod["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"]
    drain = float(settings["FRONTROW_LAME_DUCK_SECONDS"]) + float(settings["FRONTROW_DRAIN_SECONDS"])

    assert stop + drain < pod["terminationGracePeriodSeconds"]


@pytest.mark.parametrize("folder", RENDERED)
def test_balancers_see_the_lame_duck_before_it_ends(folder: str) -> None:
    pod = deployed_pod(folder)
    probe = pod["containers"][0]["readinessProbe"]
    seen_after = probe["periodSeconds"] * probe["failureThreshold"] + probe["timeoutSeconds"]

    assert seen_after < float(settings_of(pod)["FRONTROW_LAME_DUCK_SECONDS"])


@pytest.mark.parametrize("folder", RENDERED)
def test_liveness_depends_on_nothing_but_the_process(folder: str) -> None:
    assert deployed_pod(folder)["containers"][0]["livenessProbe"]["httpGet"]["path"] == "/healthz"


@pytest.mark.parametrize("folder", RENDERED)
def test_every_pod_has_a_read_only_root_no_token_and_as_much_memory_as_it_asked_for(folder: str) -> None:
    for pod in pod_specs(manifests(folder)):
        assert pod["automountServiceAccountToken"] is False
        for container in pod["containers"]:
            assert container["securityContext"]["readOnlyRootFilesystem"] is True
            resources = container["resources"]
            assert resources["requests"]["memory"] == resources["limits"]["memory"]
            assert "cpu" not in resources["limits"]


@pytest.mark.parametrize("folder", RENDERED)
def test_no_service_puts_settings_into_the_environment(folder: str) -> None:
    # A Service `frontrow` with links would set FRONTROW_PORT=tcp://10.0.0.1:80 and FRONTROW_SERVICE_HOST.
    assert all(pod["enableServiceLinks"] is False for pod in pod_specs(manifests(folder)))


@pytest.mark.parametrize("folder", RENDERED)
def test_it_runs_as_the_user_of_the_image(folder: str) -> None:
    (user, group) = re.findall(r"^USER (\d+):(\d+)$", (HOUSE / "Dockerfile").read_text(), re.MULTILINE)[0]
    context = deployed_pod(folder)["securityContext"]

    assert (str(context["runAsUser"]), str(context["runAsGroup"])) == (user, group)


def test_a_rollout_replaces_pods_without_a_gap() -> None:
    strategy = of_kind(manifests("base"), "Deployment")["spec"]["strategy"]["rollingUpdate"]
    canary = of_kind(manifests("overlays/production"), "Rollout")["spec"]["strategy"]["canary"]

    assert (strategy["maxUnavailable"], strategy["maxSurge"]) == (0, "25%")
    assert (canary["maxUnavailable"], canary["maxSurge"]) == (0, "25%")


def test_the_autoscaler_owns_the_number_of_replicas() -> None:
    for folder, kind in (("base", "Deployment"), ("overlays/production", "Rollout")):
        documents = manifests(folder)
        target = of_kind(documents, "HorizontalPodAutoscaler")["spec"]["scaleTargetRef"]
        assert (target["kind"], target["name"]) == (kind, "frontrow")
        assert "replicas" not in of_kind(documents, kind)["spec"]


def test_the_rollout_runs_the_deployments_pods_and_keeps_as_many_revisions_as_it_may_go_back() -> None:
    documents = manifests("overlays/production")
    deployment, rollout = of_kind(documents, "Deployment"), of_kind(documents, "Rollout")

    assert rollout["spec"]["workloadRef"]["name"] == deployment["metadata"]["name"]
    assert rollout["spec"]["selector"] == deployment["spec"]["selector"]
    assert rollout["spec"]["rollbackWindow"]["revisions"] <= rollout["spec"]["revisionHistoryLimit"]


def test_every_stage_of_the_rollout_is_judged_against_a_fresh_baseline_of_equal_size() -> None:
    documents = manifests("overlays/production")
    steps = of_kind(documents, "Rollout")["spec"]["strategy"]["canary"]["steps"]
    template = of_kind(documents, "AnalysisTemplate")
    needed = {argument["name"] for argument in template["spec"]["args"] if "value" not in argument}

    assert [step["setWeight"] for step in steps if "setWeight" in step] == [5, 25, 50]
    assert ["experiment" in step for step in steps] == [True, False, True, False, True, False, True]
    for experiment in (step["experiment"] for step in steps if "experiment" in step):
        sizes = {one["specRef"]: one["replicas"] for one in experiment["templates"]}
        assert sizes == {"stable": sizes["canary"], "canary": sizes["canary"]}
        (analysis,) = experiment["analyses"]
        assert analysis["templateName"] == template["metadata"]["name"]
        assert analysis["requiredForCompletion"] is True
        assert needed <= {argument["name"] for argument in analysis["args"]}


def test_the_monitor_tells_prometheus_which_pod_is_a_canary() -> None:
    documents = manifests("overlays/production")
    labels = of_kind(documents, "ServiceMonitor")["spec"]["podTargetLabels"]
    judge = next(pod_specs(of_kind(documents, "AnalysisTemplate")))
    asked = set(re.findall(r"\{(\w+)=", " ".join(judge["containers"][0]["args"])))

    assert len(asked) == 1
    assert asked <= {label.replace("-", "_") for label in labels}


def test_an_overlay_says_only_the_difference() -> None:
    for folder in ("overlays/dev", "overlays/production"):
        own = yaml.safe_load((HOUSE / "k8s" / folder / "kustomization.yaml").read_text())
        assert own.keys() <= {"apiVersion", "kind", "resources", "components", "patches"}
        assert own["resources"] == ["../../base"]


def test_a_release_names_every_image_by_digest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "k8s").symlink_to(HOUSE / "k8s")
    image, judge = (f"registry.example:5000/{name}@sha256:{'a' * 64}" for name in ("frontrow", "frontrow-judge"))

    said = CliRunner().invoke(release, ["deploy", "--image", image, "--judge", judge])

    assert said.exit_code == 0, said.output
    images = re.findall(r"image: (.*)", rendered_text(tmp_path / "build" / "deploy"))
    assert set(images) == {image, judge}


def test_a_hotfix_shortens_the_canary_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "k8s").symlink_to(HOUSE / "k8s")
    rendered = {}
    for canary in ("full", "short"):
        words = ["deploy", "--image", f"frontrow@sha256:{'a' * 64}", "--canary", canary]
        assert CliRunner().invoke(release, words).exit_code == 0
        rendered_text.cache_clear()
        rendered[canary] = rendered_text(tmp_path / "build" / "deploy").splitlines()

    assert len(rendered["short"]) == len(rendered["full"]) + 1
    assert [line.strip() for line in rendered["short"] if line not in rendered["full"]] == ["- --hotfix"]


def test_the_image_and_the_settings_agree_on_the_port() -> None:
    assert image_environment()["FRONTROW_PORT"] == str(Settings.model_fields["port"].default)


def deployed_pod(folder: str) -> Manifest:
    pod: Manifest = copy.deepcopy(of_kind(manifests(folder), "Deployment")["spec"]["template"]["spec"])
    return pod
