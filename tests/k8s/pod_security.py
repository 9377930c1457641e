"""The Pod Security Standard *restricted*, control by control.

Source: kubernetes.io/docs/concepts/security/pod-security-standards.
Each control is a function from a pod spec to the places that break it. Restricted includes all of *baseline*.
"""

from collections.abc import Callable, Iterator
from typing import Any

from rendered_manifests import Manifest, containers

Control = Callable[[Manifest], Iterator[str]]

VOLUMES = {
    "configMap",
    "csi",
    "downwardAPI",
    "emptyDir",
    "ephemeral",
    "persistentVolumeClaim",
    "projected",
    "secret",
}
SYSCTLS = {
    "kernel.shm_rmid_forced",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.tcp_syncookies",
    "net.ipv4.ping_group_range",
    "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.tcp_keepalive_time",
    "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes",
}
SELINUX_TYPES = {None, "", "container_t", "container_init_t", "container_kvm_t", "container_engine_t"}


def _contexts(pod: Manifest) -> Iterator[tuple[str, dict[str, Any]]]:
    """The security context of the pod, then those of its containers."""
    yield "pod", pod.get("securityContext") or {}
    for container in containers(pod):
        yield container["name"], container.get("securityContext") or {}


def _effective(pod: Manifest, field: str) -> Iterator[tuple[str, Any]]:
    """A field for each container: its own, else the pod's."""
    inherited = (pod.get("securityContext") or {}).get(field)
    for container in containers(pod):
        yield container["name"], (container.get("securityContext") or {}).get(field, inherited)


def no_host_process(pod: Manifest) -> Iterator[str]:
    for name, context in _contexts(pod):
        if (context.get("windowsOptions") or {}).get("hostProcess"):
            yield f"{name}: hostProcess"


def no_host_namespaces(pod: Manifest) -> Iterator[str]:
    yield from (field for field in ("hostNetwork", "hostPID", "hostIPC") if pod.get(field))


def not_privileged(pod: Manifest) -> Iterator[str]:
    yield from (f"{name}: privileged" for name, context in _contexts(pod) if context.get("privileged"))


def only_plain_volumes(pod: Manifest) -> Iterator[str]:
    for volume in pod.get("volumes", []):
        yield from (f"volume {volume['name']}: {kind}" for kind in volume.keys() - {"name"} - VOLUMES)


def no_host_ports(pod: Manifest) -> Iterator[str]:
    for container in containers(pod):
        yield from (f"{container['name']}: hostPort" for port in container.get("ports", []) if port.get("hostPort"))


def no_host_in_probes_and_hooks(pod: Manifest) -> Iterator[str]:
    for container in containers(pod):
        hooks = container.get("lifecycle") or {}
        named = {kind: container.get(kind) for kind in ("livenessProbe", "readinessProbe", "startupProbe")} | hooks
        for kind, handler in named.items():
            for action in ("httpGet", "tcpSocket"):
                if ((handler or {}).get(action) or {}).get("host"):
                    yield f"{container['name']}: {kind}.{action}.host"


def app_armor_on(pod: Manifest) -> Iterator[str]:
    for name, context in _contexts(pod):
        kind = (context.get("appArmorProfile") or {}).get("type")
        if kind not in (None, "RuntimeDefault", "Localhost"):
            yield f"{name}: appArmorProfile {kind}"


def selinux_confined(pod: Manifest) -> Iterator[str]:
    for name, context in _contexts(pod):
        options = context.get("seLinuxOptions") or {}
        if options.get("type") not in SELINUX_TYPES or options.get("user") or options.get("role"):
            yield f"{name}: seLinuxOptions {options}"


def default_proc_mount(pod: Manifest) -> Iterator[str]:
    for name, context in _contexts(pod):
        if context.get("procMount") not in (None, "Default"):
            yield f"{name}: procMount {context['procMount']}"


def only_safe_sysctls(pod: Manifest) -> Iterator[str]:
    for sysctl in (pod.get("securityContext") or {}).get("sysctls", []):
        if sysctl["name"] not in SYSCTLS:
            yield f"sysctl {sysctl['name']}"


def no_privilege_escalation(pod: Manifest) -> Iterator[str]:
    for container in containers(pod):
        if (container.get("securityContext") or {}).get("allowPrivilegeEscalation") is not False:
            yield f"{container['name']}: allowPrivilegeEscalation"


def runs_as_non_root(pod: Manifest) -> Iterator[str]:
    yield from (f"{name}: runAsNonRoot" for name, value in _effective(pod, "runAsNonRoot") if value is not True)


def not_user_0(pod: Manifest) -> Iterator[str]:
    yield from (f"{name}: runAsUser 0" for name, context in _contexts(pod) if context.get("runAsUser") == 0)


def seccomp_on(pod: Manifest) -> Iterator[str]:
    for name, profile in _effective(pod, "seccompProfile"):
        if (profile or {}).get("type") not in ("RuntimeDefault", "Localhost"):
            yield f"{name}: seccompProfile"


def no_capabilities(pod: Manifest) -> Iterator[str]:
    for container in containers(pod):
        capabilities = (container.get("securityContext") or {}).get("capabilities") or {}
        if "ALL" not in capabilities.get("drop", []):
            yield f"{container['name']}: does not drop ALL"
        added = set(capabilities.get("add", [])) - {"NET_BIND_SERVICE"}
        yield from (f"{container['name']}: adds {capability}" for capability in sorted(added))


RESTRICTED: tuple[Control, ...] = (
    no_host_process,
    no_host_namespaces,
    not_privileged,
    only_plain_volumes,
    no_host_ports,
    no_host_in_probes_and_hooks,
    app_armor_on,
    selinux_confined,
    default_proc_mount,
    only_safe_sysctls,
    no_privilege_escalation,
    runs_as_non_root,
    not_user_0,
    seccomp_on,
    no_capabilities,
)
