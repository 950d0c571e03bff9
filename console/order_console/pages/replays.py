"""Replays: how far they are, and how to hold, go on with, or end one."""

from starlette.responses import Response
from starlette.routing import Route

from order_console.forms import BadInput
from order_console.pages.live import part_of
from order_console.poller import REPLAYS_SHOWN
from order_console.services import ADMIN
from order_console.site import Site, Visit, reason_of, service_of, to

CHANGES = ("pause", "resume", "cancel")


def routes(site: Site) -> list[Route]:
    async def replays(visit: Visit) -> Response:
        answers = await site.services.both(lambda admin: admin.replays(limit=REPLAYS_SHOWN))
        shown = {service: found.value.replays for service, found in answers.items() if found.value}
        return site.show(visit, "replays.html", answers=answers, replays=shown)

    async def replay(visit: Visit) -> Response:
        service, id_ = service_of(visit.query), visit.query.whole("id", 0)
        found = await site.services.ask(ADMIN[service].replay(id_))
        return site.show(visit, "replay.html", service=service, replay=found, part=part_of(service, id_))

    async def change(visit: Visit) -> Response:
        service, id_ = service_of(visit.form), visit.form.whole("id", 0)
        change = visit.form.text("change")
        if change not in CHANGES:
            raise BadInput("A replay can be paused, resumed or cancelled.")
        request = ADMIN[service].change_replay(id_, change, reason_of(visit.form))
        await site.services.ask(request, operator=visit.operator)
        return to("/replay", service=service, id=id_)

    return [
        site.page("/replays", replays),
        site.page("/replay", replay),
        site.form("/replay", change),
    ]
