"""Where the load goes, and plain requests to it outside the measurement."""

import http.client
import json
import ssl
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from benchmarks.errors import BadTarget, Unreachable

RANK_PATH = "/v1/rank"
PATIENCE_SECONDS = 10


@dataclass(frozen=True)
class Target:
    """One path of one server."""

    host: str
    port: int
    path: str
    tls: bool

    @property
    def authority(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def url(self) -> str:
        return f"{'https' if self.tls else 'http'}://{self.authority}{self.path}"

    def request(self, method: str, path: str, body: bytes = b"", headers: dict[str, str] | None = None) -> "Answer":
        """One request on a connection of its own.

        Raises Unreachable when there is no answer within `PATIENCE_SECONDS`.
        """
        kind = http.client.HTTPSConnection if self.tls else http.client.HTTPConnection
        connection = kind(self.host, self.port, timeout=PATIENCE_SECONDS)
        try:
            connection.request(method, path, body or None, headers or {})
            answer = connection.getresponse()
            return Answer(answer.status, answer.read())
        except (OSError, http.client.HTTPException) as error:
            raise Unreachable(f"{method} {self.authority}{path}: {str(error) or type(error).__name__}") from error
        finally:
            connection.close()


@dataclass(frozen=True)
class Answer:
    status: int
    body: bytes

    def json(self) -> Any:
        """Return the decoded body, or None where it is no JSON."""
        try:
            return json.loads(self.body)
        except ValueError:
            return None


def parse_target(url: str) -> Target:
    """Read an http or https URL; without a path it is the service's own `/v1/rank`."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise BadTarget(f"{url}: {error}") from error
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise BadTarget(f"{url}: write it as http://host:port or http://host:port/path")
    tls = parts.scheme == "https"
    path = RANK_PATH if parts.path in {"", "/"} else parts.path
    query = f"?{parts.query}" if parts.query else ""
    return Target(parts.hostname, port or (443 if tls else 80), path + query, tls)


def tls_context(target: Target) -> ssl.SSLContext | None:
    return ssl.create_default_context() if target.tls else None
