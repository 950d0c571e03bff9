"""The services themselves: what they depend on, whether they consume, and how to hold them."""

from starlette.responses import Response
from starlette.routing import Route

from order_console.forms import BadInput
from order_console.services import ADMIN
from order_console.site import Site, Visit, reason_of, service_of, to

NOTES = {"pause": "paused", "resume": "resumed"}


def routes(site: Site) -> list[Route]:
    async def services(visit: Visit) -> Response:
        answers = await site.services.both(lambda admin: admin.state())
        return site.show(visit, "services.html", answers=answers)

    async def change_consuming(visit: Visit) -> Response:
        service, change = service_of(visit.form), visit.form.text("change")
        if change not in NOTES:
            raise BadInput("Consuming can be paused or resumed.")
        request = ADMIN[service].change_consuming(change, reason_of(visit.form))
        await site.services.ask(request, operator=visit.operator)
        return to("/services", note=NOTES[change])

    return [
        site.page("/services", services),
        site.form("/consuming", change_consuming),
    ]
