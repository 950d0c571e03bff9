"""Everything but the probes is for admins, in code and documents."""

from pathlib import Path
from random import Random

import yaml

from processor_service.main import configured_policy, processor_service
from processor_service.settings import ProcessorSettings
from service_kit.http.endpoint import roles_of
from service_kit.http.principal import Role
from service_kit.inprocess import InProcessBroker


async def test_each_route_has_the_role_that_the_documents_say(
    dsn: str, broker: InProcessBroker, contracts_folder: Path
) -> None:
    settings = ProcessorSettings(db_dsn=dsn, port=0)
    async with processor_service(settings, broker, configured_policy(settings, Random())) as parts:
        served = {(method, path): role for method, path, role in roles_of(parts.routes) if method != "HEAD"}

    document = yaml.safe_load((contracts_folder / "openapi-processor-service.yaml").read_text("utf-8"))
    for path, item in document["paths"].items():
        for method in {"get", "post"} & set(item):
            if security := item[method].get("security"):
                assert served[method.upper(), path] == security[0]["key"][0]
            else:
                assert path in ("/health", "/ready", "/metrics", "/docs", "/openapi.json")
    assert {path for (_, path), role in served.items() if role is not Role.ADMIN} == {
        "/docs",
        "/openapi.json",
    }
