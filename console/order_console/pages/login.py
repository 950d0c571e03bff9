"""Who may come in, and by which name."""

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from order_console.access import PATH, ForeignForm
from order_console.forms import BadInput, form_of, query_of
from order_console.site import Site, Visit, to


def routes(site: Site) -> list[Route]:
    async def ask(request: Request) -> Response:
        visitor = site.access.visitor(request)
        return site.show_to(request, visitor, "login.html", next=query_of(request).text("next"), fault=None)

    async def login(request: Request) -> Response:
        visitor = site.access.visitor(request)
        form = await form_of(request)
        try:
            site.access.check_form(request, visitor, form)
            session = site.access.login(form)
        except (BadInput, ForeignForm) as error:
            fault = str(error) or "This page was too old. Try once more."
            return site.show_to(
                request, visitor, "login.html", status=400, next=form.text("next"), fault=fault
            )
        response = to(_own(form.text("next")))
        site.access.remember(response, request, session)
        return response

    async def logout(visit: Visit) -> Response:
        response = to("/login")
        site.access.forget(response)
        return response

    return [
        site.door("/login", "GET", ask),
        site.door("/login", "POST", login),
        site.form("/logout", logout),
    ]


def _own(asked: str) -> str:
    """Where somebody wanted to go before the login, below the console's own path only."""
    return asked.removeprefix(PATH) if asked.startswith((f"{PATH}/", f"{PATH}?")) else ""
