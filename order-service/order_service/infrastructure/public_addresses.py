"""Which addresses a webhook may be sent to: those of the public internet, and none behind our own walls."""

from collections.abc import Sequence
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address

_GLOBAL_UNICAST = IPv6Network("2000::/3")
_NAT64 = IPv6Network("64:ff9b::/96")
# Their addresses hold one of IPv4, to which a relay would lead on: 6to4 and Teredo.
_TUNNELS = (IPv6Network("2002::/16"), IPv6Network("2001::/32"))


class AddressRefused(Exception):
    """A name leads to an address that is not public."""


def is_public(text: str) -> bool:
    """Whether the address is one of the public internet, also when IPv4 is hidden in IPv6.

    Loopback, private, link-local (with the metadata services of clouds), shared (RFC 6598), multicast and
    reserved addresses are not.
    """
    address = ip_address(text.partition("%")[0])
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped:
            return _is_public_v4(address.ipv4_mapped)
        if address in _NAT64:
            return _is_public_v4(IPv4Address(address.packed[-4:]))
        return (
            address in _GLOBAL_UNICAST
            and address.is_global
            and not any(address in network for network in _TUNNELS)
        )
    return _is_public_v4(address)


def _is_public_v4(address: IPv4Address) -> bool:
    return address.is_global and not address.is_multicast and not address.is_reserved


def require_public(addresses: Sequence[str]) -> None:
    """Raises AddressRefused if any is not: which of several is connected to is chance."""
    for address in addresses:
        if not is_public(address):
            raise AddressRefused(f"{address} is not an address of the public internet")
