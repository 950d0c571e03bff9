"""The console's own files, and every address that is none of its places."""

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from order_console.site import Site, to
from service_kit.http.problems import Problem

_FOR_EVER = "public, max-age=31536000, immutable"


def routes(site: Site) -> list[Route]:
    async def asset(request: Request) -> Response:
        found = site.assets.get(request.path_params["name"])
        if found is None:
            raise Problem.of_status(404, "The console has no such file.")
        headers = {
            "cache-control": _FOR_EVER
            if request.path_params["version"] == site.assets.version
            else "no-cache"
        }
        return Response(found.content, media_type=found.media_type, headers=headers)

    async def nothing(request: Request) -> Response:
        raise Problem.of_status(404, "The console has no such page.")

    async def slash(request: Request) -> Response:
        return to("")

    return [
        site.door("/static/{version}/{name}", "GET", asset),
        site.door("/", "GET", slash),
        site.door("/{anything:path}", "GET", nothing),
    ]
