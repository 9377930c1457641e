"""The Spinnaker pipeline: what it deploys are the pods of k8s/base, and every reference in it leads somewhere."""

import copy
import itertools
import json
import re
from typing import Any

import kubernetes_validate
import pytest
from manifest_names import unknown_commands
from pod_security import RESTRICTED
from rendered_manifests import HOUSE, Manifest, manifests, of_kind, pod_specs
from test_k8s_manifests import KUBERNETES

PIPELINE = json.loads((HOUSE / "k8s" / "spinnaker" / "pipeline.json").read_text())
STAGES = {stage["name"]: stage for stage in PIPELINE["stages"]}


def deployed() -> list[Manifest]:
    """The Deployments of both arms, and the job of the judge."""
    documents = copy.deepcopy([*STAGES["Baseline and canary"]["manifests"], STAGES["Judge"]["manifest"]])
    for document in documents:
        for pod in pod_specs(document):
            for container in pod["containers"]:
                container["image"] = container["image"].replace("${parameters.", "frontrow-").replace("}", "")
    return documents


def test_every_stage_follows_from_one_that_is_there() -> None:
    ids = [stage["refId"] for stage in PIPELINE["stages"]]

    assert len(set(ids)) == len(ids)
    for before, stage in itertools.pairwise(PIPELINE["stages"]):
        assert stage["requisiteStageRefIds"] == [before["refId"]]


def test_every_parameter_is_declared_and_used() -> None:
    declared = {parameter["name"] for parameter in PIPELINE["parameterConfig"]}

    assert set(re.findall(r"\$\{parameters\.(\w+)\}", json.dumps(PIPELINE["stages"]))) == declared


@pytest.mark.parametrize("version", KUBERNETES)
def test_what_it_deploys_is_valid_to_the_letter(version: str) -> None:
    for document in deployed():
        document["metadata"].setdefault("name", document["metadata"].pop("generateName", None))
        kubernetes_validate.validate(document, version, strict=True)


def test_both_arms_are_one_pod_as_production_runs_it() -> None:
    production = of_kind(manifests("overlays/production"), "Deployment")["spec"]["template"]["spec"]
    for arm, deployment in zip(("baseline", "canary"), deployed(), strict=False):
        pod = deployment["spec"]["template"]
        labels = pod["metadata"]["labels"]
        expected: dict[str, Any] = copy.deepcopy(production)
        expected["containers"][0]["image"] = pod["spec"]["containers"][0]["image"]

        assert deployment["spec"]["replicas"] == 1
        assert pod["spec"] == expected
        assert labels["app.kubernetes.io/component"] == arm
        assert deployment["spec"]["selector"]["matchLabels"].items() <= labels.items()


def test_the_judge_is_the_one_of_the_rollouts_and_tells_the_arms_by_their_label() -> None:
    documents = manifests("overlays/production")
    ours = next(pod_specs(of_kind(documents, "AnalysisTemplate")))
    theirs = next(pod_specs(copy.deepcopy(STAGES["Judge"]["manifest"])))
    arguments = theirs["containers"][0].pop("args")
    expected = []
    for argument in ours["containers"][0].pop("args"):
        told = re.sub(
            r'rollouts_pod_template_hash="\{\{args\.(\w+)\}\}"', r'app_kubernetes_io_component="\1"', argument
        )
        told = told.replace("{{args.stage}}", "1")
        expected.append(told.replace("{{args.prometheus}}", "${parameters.prometheus}"))
    for pod in (ours, theirs):
        pod["containers"][0].pop("image")

    assert arguments == expected
    assert theirs == ours
    assert "app.kubernetes.io/component" in of_kind(documents, "ServiceMonitor")["spec"]["podTargetLabels"]


def test_its_pods_pass_the_restricted_standard_and_its_commands_exist() -> None:
    assert [fault for pod in pod_specs(deployed()) for control in RESTRICTED for fault in control(pod)] == []
    assert list(unknown_commands(deployed())) == []


def test_both_arms_are_destroyed_whatever_the_judge_says_and_only_a_pass_is_promoted() -> None:
    judge, destroy, only, promote = (STAGES[name] for name in ("Judge", "Destroy both", "Only what passed", "Promote"))

    for stage in (judge, destroy):
        assert (stage["failPipeline"], stage["continuePipeline"]) == (False, True)
    (condition,) = only["preconditions"]
    assert condition["failPipeline"] is True
    assert "#stage('Judge')" in condition["context"]["expression"]
    (container,) = promote["patchBody"][0]["spec"]["template"]["spec"]["containers"]
    assert container == {"name": "frontrow", "image": "${parameters.image}"}
