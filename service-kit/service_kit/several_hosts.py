"""URLs that name several hosts, separated by commas."""

from urllib.parse import SplitResult, urlsplit


def split_url(url: str) -> SplitResult:
    """As `urlsplit`, also when a bracketed address stands behind another host. Raises ValueError.

    Pythons with the stricter check of brackets take such a one for malformed (seen with Debian's 3.11.2).
    """
    scheme, _, rest = url.partition("://")
    end = min(at for mark in "/?#" if (at := (rest + mark).find(mark)) >= 0)
    login, at_sign, hosts = rest[:end].rpartition("@")
    if "," not in hosts:
        return urlsplit(url)
    for host in hosts.split(","):
        urlsplit(f"{scheme}://{login}{at_sign}{host}")
    return urlsplit(f"{scheme}://{login}{at_sign}{rest[end:]}")._replace(netloc=rest[:end])
