"""Templates, in which every value is escaped, and what they may use."""

from pathlib import Path

import jinja2

from order_console import words
from order_console.assets import Assets
from order_console.services import NAMES
from order_console.verdict import verdicts
from order_processor_client.request import Service

FOLDER = Path(__file__).parent / "templates"
_FILTERS = (
    words.ago,
    words.count,
    words.duration,
    words.moment,
    words.money,
    words.plain,
    words.rate,
    words.readable,
    words.share,
    words.shown,
    words.size,
    words.told,
)


def environment(assets: Assets) -> jinja2.Environment:
    """A name that is not there is an error, and no empty place."""
    made = jinja2.Environment(
        loader=jinja2.FileSystemLoader(FOLDER),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    made.filters.update({filter_.__name__: filter_ for filter_ in _FILTERS})
    made.globals.update(asset=assets.url, names=NAMES, services=list(Service), verdicts=verdicts)
    return made
