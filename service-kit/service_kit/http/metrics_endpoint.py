"""`/metrics` in the text format that every Prometheus reads."""

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from service_kit.http.endpoint import Endpoint
from service_kit.http.principal import Role


def metrics_route(registry: CollectorRegistry) -> Route:
    async def metrics(_: Request) -> Response:
        return Response(generate_latest(registry), headers={"content-type": CONTENT_TYPE_PLAIN_0_0_4})

    # Prometheus comes without a key, and nothing here is about one order or customer.
    # Prometheus comes without a key, and nothing here is about one order or customer.
    return Route("/metrics", Endpoint(metrics, Role.ANYBODY), methods=["GET"])
