"""Every pod passes the *restricted* Pod Security Standard, which each namespace here enforces."""

import copy
from typing import Any

import pytest
import yaml
from pod_security import (
    RESTRICTED,
    Control,
    app_armor_on,
    default_proc_mount,
    no_capabilities,
    no_host_in_probes_and_hooks,
    no_host_namespaces,
    no_host_ports,
    no_host_process,
    no_privilege_escalation,
    not_privileged,
    not_user_0,
    only_plain_volumes,
    only_safe_sysctls,
    runs_as_non_root,
    seccomp_on,
    selinux_confined,
)
from rendered_manifests import RENDERED, Manifest, manifests, of_kind, pod_specs


@pytest.mark.parametrize("folder", RENDERED)
@pytest.mark.parametrize("control", RESTRICTED, ids=lambda control: control.__name__)
def test_every_pod_passes(folder: str, control: Control) -> None:
    pods = list(pod_specs(manifests(folder)))

    assert pods
    assert [fault for pod in pods for fault in control(pod)] == []


@pytest.mark.parametrize("folder", RENDERED)
def test_the_namespace_enforces_what_is_checked_here(folder: str) -> None:
    labels = of_kind(manifests(folder), "Namespace")["metadata"]["labels"]

    assert labels["pod-security.kubernetes.io/enforce"] == "restricted"


# What is merged into the pod, and into its container (`container:`), and the control that must see it. Null removes.
BROKEN = [
    (no_host_process, "{securityContext: {windowsOptions: {hostProcess: true}}}"),
    (no_host_process, "container: {securityContext: {windowsOptions: {hostProcess: true}}}"),
    (no_host_namespaces, "{hostNetwork: true}"),
    (no_host_namespaces, "{hostPID: true}"),
    (no_host_namespaces, "{hostIPC: true}"),
    (not_privileged, "container: {securityContext: {privileged: true}}"),
    (only_plain_volumes, "{volumes: [{name: tmp, hostPath: {path: /}}]}"),
    (only_plain_volumes, "{volumes: [{name: tmp, nfs: {server: a, path: /}}]}"),
    (no_host_ports, "container: {ports: [{containerPort: 8000, hostPort: 8000}]}"),
    (no_host_in_probes_and_hooks, "container: {livenessProbe: {httpGet: {host: 10.0.0.1}}}"),
    (no_host_in_probes_and_hooks, "container: {lifecycle: {preStop: {tcpSocket: {host: 10.0.0.1}}}}"),
    (app_armor_on, "{securityContext: {appArmorProfile: {type: Unconfined}}}"),
    (selinux_confined, "{securityContext: {seLinuxOptions: {type: spc_t}}}"),
    (selinux_confined, "container: {securityContext: {seLinuxOptions: {user: root}}}"),
    (default_proc_mount, "container: {securityContext: {procMount: Unmasked}}"),
    (only_safe_sysctls, "{securityContext: {sysctls: [{name: kernel.msgmax, value: '1'}]}}"),
    (no_privilege_escalation, "container: {securityContext: {allowPrivilegeEscalation: true}}"),
    (no_privilege_escalation, "container: {securityContext: {allowPrivilegeEscalation: null}}"),
    (no_privilege_escalation, "container: {securityContext: null}"),
    (runs_as_non_root, "{securityContext: {runAsNonRoot: null}}"),
    (runs_as_non_root, "{securityContext: null}"),
    (runs_as_non_root, "container: {securityContext: {runAsNonRoot: false}}"),
    (not_user_0, "{securityContext: {runAsUser: 0}}"),
    (not_user_0, "container: {securityContext: {runAsUser: 0}}"),
    (seccomp_on, "{securityContext: {seccompProfile: null}}"),
    (seccomp_on, "container: {securityContext: {seccompProfile: {type: Unconfined}}}"),
    (no_capabilities, "container: {securityContext: {capabilities: null}}"),
    (no_capabilities, "container: {securityContext: {capabilities: {drop: [NET_RAW]}}}"),
    (no_capabilities, "container: {securityContext: {capabilities: {add: [SYS_ADMIN]}}}"),
]


@pytest.mark.parametrize(("control", "change"), BROKEN)
def test_each_control_fails_on_a_pod_that_breaks_it(control: Control, change: str) -> None:
    pod = copy.deepcopy(next(pod_specs(manifests("base"))))
    parsed: dict[str, Any] = yaml.safe_load(change)
    merge(pod["containers"][0], parsed.pop("container", {}))
    merge(pod, parsed)

    assert list(control(pod))


def test_every_control_is_shown_to_fail() -> None:
    assert {control for control, _ in BROKEN} == set(RESTRICTED)


def merge(into: Manifest, change: Manifest) -> None:
    for key, value in change.items():
        if value is None:
            into.pop(key, None)
        elif isinstance(value, dict) and isinstance(into.get(key), dict):
            merge(into[key], value)
        else:
            into[key] = value
