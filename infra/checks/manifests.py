"""`make manifests`: build the Kustomize overlays, check each object against the schemas of its API, offline.

Schemas of Kubernetes come with the package kubernetes-validate, those of the operators' resources are in
infra/kubernetes/schemas and know the fields used here. Both are strict: an unknown field is a fault.
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml
from jsonschema import Draft202012Validator
from referencing import Registry, Resource

from infra.checks.engine import FOLDER, CheckFailed

KUBERNETES = FOLDER / "kubernetes"
OVERLAYS = ("local", "managed", "production")
CRD_SCHEMAS = KUBERNETES / "schemas"
ALERTS = FOLDER / "prometheus" / "alerts.yml"
ALERTS_OBJECT = KUBERNETES / "components" / "monitoring" / "alerts.yaml"
VERSIONS = ("1.30", "1.37")
"""Of Kubernetes: the oldest that the manifests are for (`sleep` in preStop), and the newest with a schema."""
WITHOUT_KUSTOMIZE = """
********************************************************************************
  SKIPPED: the Kubernetes manifests were NOT checked, since neither kubectl nor
  kustomize is here (kubectl 1.21 or newer, or kustomize 4.1 or newer).
********************************************************************************
"""

Object = dict[str, Any]


def main(arguments: Sequence[str]) -> int:
    if arguments == ["--write-alerts"]:
        ALERTS_OBJECT.write_text(alerts_object())
        return 0
    if kustomize() is None:
        print(WITHOUT_KUSTOMIZE, file=sys.stderr)
        return 1 if os.environ.get("CI") else 0
    faults = (
        [] if ALERTS_OBJECT.read_text() == alerts_object() else [f"{ALERTS_OBJECT.name} is not alerts.yml"]
    )
    for overlay in OVERLAYS:
        objects = build(overlay)
        found = [f"{overlay}: {fault}" for one in objects for fault in faults_of(one)]
        faults += found
        print(f"overlays/{overlay}: {len(objects)} objects, {len(found)} faults")
    print("\n".join(faults), end="\n" if faults else "", file=sys.stderr)
    return 1 if faults else 0


def kustomize() -> Sequence[str] | None:
    """The command that builds a folder, None when there is none."""
    if shutil.which("kubectl"):
        return ["kubectl", "kustomize"]
    return ["kustomize", "build"] if shutil.which("kustomize") else None


@cache
def build(overlay: str) -> Sequence[Object]:
    """The objects of an overlay. Raises CheckFailed with what kustomize says."""
    command = kustomize()
    if command is None:
        raise CheckFailed("there is neither kubectl nor kustomize")
    folder = KUBERNETES / "overlays" / overlay
    done = subprocess.run([*command, str(folder)], capture_output=True, text=True, check=False)
    # A warning is of something that will be an error one day.
    if done.returncode or done.stderr:
        raise CheckFailed(f"overlays/{overlay}: {done.stderr}")
    return list(yaml.safe_load_all(done.stdout))


def faults_of(one: Object, versions: Sequence[str] = VERSIONS) -> Iterator[str]:
    """A line for each way in which the object is not what its API takes."""
    name = f"{one['kind']} {one['metadata']['name']}"
    own = CRD_SCHEMAS / schema_name(one["apiVersion"], one["kind"])
    if own.exists():
        yield from (f"{name}: {fault}" for fault in _differences(_of_custom_resource(own), one))
        return
    for version in versions:
        validator = _of_kubernetes(version, one["apiVersion"], one["kind"])
        if validator is None:
            yield f"{name}: there is no schema of {one['apiVersion']}, Kubernetes {version}"
        else:
            yield from (f"{name}: Kubernetes {version}: {fault}" for fault in _differences(validator, one))


def schema_name(api_version: str, kind: str) -> str:
    return f"{api_version.replace('/', '_')}_{kind}.json".lower()


def alerts_object() -> str:
    """The rules of infra/prometheus/alerts.yml, as the Prometheus operator takes them."""
    rules = ALERTS.read_text()
    groups = rules[rules.index("groups:") :]
    indented = "".join(f"  {line}" if line.strip() else line for line in groups.splitlines(keepends=True))
    return (
        "# Made of infra/prometheus/alerts.yml by `make manifests ARGS=--write-alerts`: change it there.\n"
        "apiVersion: monitoring.coreos.com/v1\nkind: PrometheusRule\n"
        f"metadata:\n  name: order-processor\nspec:\n{indented}"
    )


def _differences(validator: Draft202012Validator, one: Object) -> Iterator[str]:
    for error in validator.iter_errors(one):
        yield f"{error.json_path}: {error.message[:300]}"


@cache
def _of_custom_resource(path: Path) -> Draft202012Validator:
    return Draft202012Validator(_strict(json.loads(path.read_text())))


def _strict(schema: Any) -> Any:
    """The schema of a custom resource, in JSON Schema's words, and allowing no fields but those it names."""
    if isinstance(schema, list):
        return [_strict(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    strict: Mapping[str, Any] = {
        key: {name: _strict(part) for name, part in value.items()} if key == "properties" else _strict(value)
        for key, value in schema.items()
        if key not in ("default", "nullable")
    }
    if "properties" in schema and not schema.get("x-kubernetes-preserve-unknown-fields"):
        strict = {"additionalProperties": False, **strict}
    return {"anyOf": [strict, {"type": "null"}]} if schema.get("nullable") else strict


@cache
def _of_kubernetes(version: str, api_version: str, kind: str) -> Draft202012Validator | None:
    group, _, short = api_version.rpartition("/")
    name = "-".join(part for part in (kind, group.partition(".")[0], short) if part).lower()
    path = _schemas(version).joinpath(f"{name}.json")
    if not path.is_file():
        return None
    return Draft202012Validator(json.loads(path.read_text()), registry=_definitions(version))


@cache
def _definitions(version: str) -> Registry[Any]:
    contents = json.loads(_schemas(version).joinpath("_definitions.json").read_text())
    return Resource.from_contents(contents) @ Registry()


def _schemas(version: str) -> Any:
    return files("kubernetes_validate").joinpath("kubernetes-json-schema", f"v{version}.0-local-strict")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
