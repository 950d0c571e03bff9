"""`make documents`: what each service serves at `/openapi.json`, made of the files in `contracts/`.

With `--release`, `contracts/released/` becomes what the files say now: what later versions may not break.
"""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

PROJECT = Path(__file__).parents[1]
CONTRACTS = PROJECT / "contracts"
RELEASED = CONTRACTS / "released"
SERVED = {
    "order-service": PROJECT / "order-service/order_service/api/openapi.json",
    "processor-service": PROJECT / "processor-service/processor_service/api/openapi.json",
}
METHODS = ("get", "put", "post", "delete", "options", "head", "patch", "trace")
# In the admin API's document, the tags of what order-service has alone.
_ORDER_SERVICE_ONLY = {"orders", "webhooks"}
Json = Any


def main() -> int:
    for service, path in SERVED.items():
        path.write_text(text_of(complete_openapi(service)), encoding="utf-8")
    if "--release" in sys.argv[1:]:
        RELEASED.mkdir(exist_ok=True)
        for name, document in current().items():
            (RELEASED / f"{name}.json").write_text(text_of(document), encoding="utf-8")
    return 0


def current() -> dict[str, Json]:
    """What is promised now, by the names of the files in `contracts/released/`."""
    apis = {f"openapi-{service}": complete_openapi(service) for service in SERVED}
    return {**apis, "asyncapi": complete_asyncapi()}


def complete_openapi(service: str) -> Json:
    """The service's own document together with that of the admin API.

    A component that both define differently is `Admin…` where it comes from the admin API.
    """
    own, admin = _read(f"openapi-{service}.yaml"), _read("openapi-admin.yaml")
    admin["paths"] = {
        path: item
        for path, item in admin["paths"].items()
        if service == "order-service" or not _is_tagged(item, _ORDER_SERVICE_ONLY)
    }
    renamed = {
        f"#/components/{kind}/{name}": f"#/components/{kind}/Admin{name[0].upper()}{name[1:]}"
        for kind, components in admin["components"].items()
        for name, component in components.items()
        if own["components"].get(kind, {}).get(name, component) != component
    }
    admin = _with_references(admin, renamed)
    for kind, components in admin["components"].items():
        known = own["components"].setdefault(kind, {})
        for name, component in components.items():
            new_name = renamed.get(f"#/components/{kind}/{name}", name).rpartition("/")[2]
            known[new_name] = component
    for item in admin["paths"].values():
        for method in METHODS & item.keys():
            operation = item[method]
            operation["tags"] = ["admin"]
            operation.setdefault("security", admin["security"])
    if not any(tag["name"] == "admin" for tag in own["tags"]):
        own["tags"].append({"name": "admin", "description": admin["info"]["description"]})
    own["paths"] |= admin["paths"]
    _drop_unused(own)
    return own


def complete_asyncapi() -> Json:
    """The document of the events, with its messages' schemas in it."""
    document = _read("asyncapi.yaml")
    for message in document["components"]["messages"].values():
        message["payload"] = json.loads((CONTRACTS / message["payload"]["$ref"]).read_text(encoding="utf-8"))
    return document


def operations(document: Json) -> Iterator[tuple[str, str, Json]]:
    """Method, path and operation, with the parameters of the path among its own."""
    for path, item in document["paths"].items():
        for method in METHODS:
            if method in item:
                parameters = [*item.get("parameters", []), *item[method].get("parameters", [])]
                yield method.upper(), path, item[method] | {"parameters": parameters}


def references(node: Json) -> Iterator[str]:
    """Every `$ref` in it."""
    if isinstance(node, dict):
        if isinstance(node.get("$ref"), str):
            yield node["$ref"]
        node = list(node.values())
    if isinstance(node, list):
        for child in node:
            yield from references(child)


def resolved(node: Json, document: Json) -> Json:
    """The node itself, or what its reference leads to."""
    while "$ref" in node:
        target = document
        for step in node["$ref"].removeprefix("#/").split("/"):
            target = target[step.replace("~1", "/").replace("~0", "~")]
        node = target
    return node


def text_of(document: Json) -> str:
    return json.dumps(document, ensure_ascii=False, indent=1) + "\n"


def _read(name: str) -> Json:
    text = (CONTRACTS / name).read_text(encoding="utf-8")
    # Through JSON, so that what YAML's anchors share is copied. The loader in C is ten times as fast.
    return json.loads(json.dumps(yaml.load(text, Loader=yaml.CSafeLoader)))


def _is_tagged(item: Json, tags: set[str]) -> bool:
    return any(tags.intersection(item[method].get("tags", ())) for method in METHODS & item.keys())


def _with_references(node: Json, renamed: dict[str, str]) -> Json:
    if isinstance(node, dict):
        return {
            key: renamed.get(value, value)
            if key == "$ref" and isinstance(value, str)
            else _with_references(value, renamed)
            for key, value in node.items()
        }
    return [_with_references(child, renamed) for child in node] if isinstance(node, list) else node


def _drop_unused(document: Json) -> None:
    """What only the other service's routes refer to."""
    while True:
        used = set(references(document))
        unused = [
            (kind, name)
            for kind, components in document["components"].items()
            for name in components
            if kind != "securitySchemes" and f"#/components/{kind}/{name}" not in used
        ]
        if not unused:
            return
        for kind, name in unused:
            del document["components"][kind][name]


if __name__ == "__main__":
    sys.exit(main())
