"""The console's own files: scripts, style, icon. Small and few, so they are kept in memory."""

from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

FOLDER = Path(__file__).parent / "static"
_MEDIA_TYPES = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Asset:
    content: bytes
    media_type: str


class Assets:
    """Each under a folder that is named by what is in all of them: an address never changes its content."""

    def __init__(self) -> None:
        paths = sorted(path for path in FOLDER.iterdir() if path.suffix in _MEDIA_TYPES)
        self._assets = {
            path.name: Asset(content=path.read_bytes(), media_type=_MEDIA_TYPES[path.suffix])
            for path in paths
        }
        self.version = sha256(b"".join(asset.content for asset in self._assets.values())).hexdigest()[:12]

    def url(self, name: str) -> str:
        return f"/console/static/{self.version}/{name}"

    def get(self, name: str) -> Asset | None:
        return self._assets.get(name)
