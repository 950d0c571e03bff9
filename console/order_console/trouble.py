"""Errors, as pages tell of them."""

from dataclasses import dataclass
from http import HTTPStatus

from order_console.access import ForeignForm
from order_console.forms import BadInput
from order_console.services import why
from order_processor_client.errors import ClientError, ProblemError
from service_kit.http.problems import Problem

FORESEEN = (BadInput, ForeignForm, ClientError, Problem)

_UNSURE = "Whether it was done is not known: the audit log tells."


@dataclass(frozen=True, slots=True, kw_only=True)
class Trouble:
    status: int
    title: str
    sentences: list[str]


def trouble_of(error: Exception, *, changing: bool) -> Trouble:
    """`changing`: what failed was to change something. Raises what is not FORESEEN."""
    match error:
        case BadInput():
            return Trouble(status=400, title="That cannot be used", sentences=[str(error)])
        case ForeignForm():
            sentence = "It was sent by another page, or it is from before you logged in. Nothing was changed."
            return Trouble(status=403, title="This form is not valid any more", sentences=[sentence])
        case Problem():
            return Trouble(
                status=error.status, title=HTTPStatus(error.status).phrase, sentences=[error.detail]
            )
        case ProblemError() if 400 <= error.status < 500 and error.status not in (401, 403):
            sentences = [error.detail, *map(str, error.errors)]
            return Trouble(status=error.status, title="The service says no", sentences=sentences)
        case ClientError():
            sentences = [f"The service {why(error)}.", *([_UNSURE] if changing else [])]
            return Trouble(status=502, title="A service did not answer as it should", sentences=sentences)
        case _:
            raise error
