"""What could not be handled: by reason, one by one, and what to do about it."""

import base64

from starlette.responses import Response
from starlette.routing import Route

from order_console.bodies import body_of
from order_console.forms import Form
from order_console.selection import as_text, chosen, filter_of, of_text
from order_console.services import ADMIN
from order_console.site import Site, Visit, reason_of, service_of, to

LETTERS_PER_PAGE = 100
PER_SECOND, FAILURE_SHARE_MAX = 100.0, 10.0


def routes(site: Site) -> list[Route]:
    ask = site.services.ask

    async def groups(visit: Visit) -> Response:
        answers = await site.services.both(lambda admin: admin.dead_letter_groups())
        return site.show(visit, "dead_letters.html", answers=answers)

    async def letters(visit: Visit) -> Response:
        service, after = service_of(visit.query), visit.query.whole("after", 0, least=0)
        request = ADMIN[service].dead_letters(
            filter_of(visit.query), after=after or None, limit=LETTERS_PER_PAGE
        )
        page = await site.services.attempt(request)
        return site.show(visit, "letters.html", service=service, query=visit.query, page=page)

    async def letter(visit: Visit) -> Response:
        service, id_ = service_of(visit.query), _id(visit.query)
        found = await ask(ADMIN[service].dead_letter(id_))
        return site.show(visit, "letter.html", service=service, letter=found, body=body_of(found))

    async def bytes_of_letter(visit: Visit) -> Response:
        """Exactly as they came, as a file: no browser makes anything of them."""
        service, id_ = service_of(visit.query), _id(visit.query)
        found = await ask(ADMIN[service].dead_letter(id_))
        name = f"{service}-dead-letter-{id_}.bin"
        headers = {"content-disposition": f'attachment; filename="{name}"'}
        content = base64.b64decode(found.body_base64)
        return Response(content, media_type="application/octet-stream", headers=headers)

    async def forecast(visit: Visit) -> Response:
        service, selection = service_of(visit.form), chosen(visit.form)
        found = await ask(ADMIN[service].forecast(selection), operator=visit.operator)
        return site.show(
            visit,
            "forecast.html",
            service=service,
            selection=as_text(selection),
            forecast=found,
            per_second=PER_SECOND,
            failure_share_max=FAILURE_SHARE_MAX,
        )

    async def replay(visit: Visit) -> Response:
        form, service = visit.form, service_of(visit.form)
        request = ADMIN[service].start_replay(
            of_text(form.exact("selection")),
            reason_of(form),
            per_second=form.number("per_second", PER_SECOND, least=0.1, most=10_000),
            failure_share_max=form.number("failure_share_max", FAILURE_SHARE_MAX, least=0, most=100) / 100,
        )
        started = await ask(request, operator=visit.operator)
        return to("/replay", service=service, id=started.id)

    async def discard(visit: Visit) -> Response:
        service, selection = service_of(visit.form), of_text(visit.form.exact("selection"))
        count = await ask(ADMIN[service].discard(selection, reason_of(visit.form)), operator=visit.operator)
        return to("/dead-letters", note="discarded", count=count)

    return [
        site.page("/dead-letters", groups),
        site.page("/dead-letters/list", letters),
        site.page("/dead-letters/letter", letter),
        site.page("/dead-letters/bytes", bytes_of_letter),
        site.form("/dead-letters/forecast", forecast),
        site.form("/dead-letters/replay", replay),
        site.form("/dead-letters/discard", discard),
    ]


def _id(query: Form) -> int:
    """Raises BadInput."""
    return query.whole("id", 0)
