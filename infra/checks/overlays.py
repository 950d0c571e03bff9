"""The built overlays as a cluster would read them: environments, selectors, network policies."""

import re
from collections.abc import Iterator, Mapping

from infra.checks.manifests import Object, build

SERVICES = ("order-service", "processor-service")
NAME, COMPONENT = "app.kubernetes.io/name", "app.kubernetes.io/component"
SECRETS = {
    "database-dsn": "postgresql://host/name",
    "rabbitmq-url": "amqps://host/",
    "admin-key": "a-key-of-the-operators",
}
"""Values for the keys of Secrets that cannot be anything; of all others the value is the key."""

Labels = Mapping[str, str]


def of_kind(overlay: str, *kinds: str) -> list[Object]:
    return [one for one in build(overlay) if one["kind"] in kinds]


def get(overlay: str, kind: str, name: str) -> Object:
    [found] = [one for one in of_kind(overlay, kind) if one["metadata"]["name"] == name]
    return found


def pods(overlay: str) -> Iterator[Object]:
    """Each pod template."""
    for one in of_kind(overlay, "Deployment", "StatefulSet", "Job"):
        yield one["spec"]["template"]


def service_pods(overlay: str) -> Iterator[tuple[str, Object]]:
    """Of services and migrations, each with the name of its service."""
    for pod in pods(overlay):
        if pod["metadata"]["labels"][NAME] in SERVICES:
            yield pod["metadata"]["labels"][NAME], pod


def environment(overlay: str, pod: Object) -> dict[str, str]:
    """What the container is given, references resolved."""
    [container] = pod["spec"]["containers"]
    result: dict[str, str] = {}
    for source in container.get("envFrom", ()):
        result |= get(overlay, "ConfigMap", source["configMapRef"]["name"])["data"]
    for variable in container["env"]:
        if "valueFrom" in variable:
            key = variable["valueFrom"]["secretKeyRef"]["key"]
            result[variable["name"]] = SECRETS.get(key, key)
        else:
            result[variable["name"]] = re.sub(
                r"\$\((\w+)\)", lambda found: result[found[1]], variable["value"]
            )
    return result


def selects(selector: Object, labels: Labels) -> bool:
    return selector.get("matchLabels", {}).items() <= labels.items() and all(
        rule["operator"] == "In" and labels.get(rule["key"]) in rule["values"]
        for rule in selector.get("matchExpressions", ())
    )


def may_send(overlay: str, labels: Labels, to: Labels | None, port: int) -> bool:
    """To pods with these labels in the namespace, or (None) to somewhere outside of it."""
    return _permitted(overlay, "Egress", "to", labels, to, None, port)


def may_receive(
    overlay: str, labels: Labels, of: Labels | None, port: int, *, namespace: Labels | None = None
) -> bool:
    """From pods with labels `of` in the namespace, or from a namespace with labels `namespace`."""
    return _permitted(overlay, "Ingress", "from", labels, of, namespace, port)


def _permitted(
    overlay: str,
    direction: str,
    word: str,
    labels: Labels,
    peer: Labels | None,
    namespace: Labels | None,
    port: int,
) -> bool:
    policies = [
        one["spec"]
        for one in of_kind(overlay, "NetworkPolicy")
        if direction in one["spec"]["policyTypes"] and selects(one["spec"]["podSelector"], labels)
    ]
    rules = [rule for policy in policies for rule in policy.get(direction.lower(), ())]
    return not policies or any(
        _port_in(rule, port) and _peer_in(rule.get(word), peer, namespace) for rule in rules
    )


def _port_in(rule: Object, port: int) -> bool:
    return any(one["port"] <= port <= one.get("endPort", one["port"]) for one in rule["ports"])


def _peer_in(peers: list[Object] | None, peer: Labels | None, namespace: Labels | None) -> bool:
    if peers is None:
        return True
    return any(
        (peer is not None and "podSelector" in one and selects(one["podSelector"], peer))
        or (
            namespace is not None
            and "namespaceSelector" in one
            and selects(one["namespaceSelector"], namespace)
        )
        for one in peers
    )
