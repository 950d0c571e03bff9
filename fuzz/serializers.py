"""What schemathesis cannot write by itself; it imports this when it starts."""

from typing import Any

import schemathesis


@schemathesis.serializer("application/x-ndjson")
def ndjson(_context: Any, value: Any) -> bytes:
    """The documents know it as text."""
    return str(value).encode(errors="surrogatepass")
