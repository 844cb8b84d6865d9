"""A pytest plugin that runs third-party HTTP tests through the gateway: `pytest -p portal`.

The fixture `httpbin` is then an application's origin at the gateway, in a session that is open already. The plugin adds what a browser has: the entry's cookie,
the certificate authority, and the resolution of names under `localhost` (RFC 6761, section 6.3). It changes nothing that the tests check.

    PORTAL_ORIGIN  https://{session}.apps.gate.localhost:{port}, or any other origin, for a run without the gateway
    PORTAL_COOKIE  the entry's cookie, name=value; optional
    PORTAL_CA      the authority's certificate, PEM; optional
"""

import http.client
import os
import socket
from types import SimpleNamespace
from urllib.parse import urlsplit

import pytest

ORIGIN = os.environ["PORTAL_ORIGIN"]
COOKIE = os.environ.get("PORTAL_COOKIE", "").encode()
CA = os.environ.get("PORTAL_CA", "")
HOST = urlsplit(ORIGIN).hostname

# Tests that do not apply, with the reason. All others that use httpbin run.
PLAIN = "is about http, or uses http URLs; an application's origin is https"
EXCLUDED = {
    "test_auth_is_stripped_on_http_downgrade": PLAIN,
    "test_basicauth_with_netrc_leak": PLAIN,
    "test_http_with_certificate": PLAIN,
    "test_mixed_case_scheme_acceptable": PLAIN,
    "test_proxy_error_on_bad_url": PLAIN,
    "test_respect_proxy_env_on_get": PLAIN,
    "test_respect_proxy_env_on_request": PLAIN,
    "test_respect_proxy_env_on_send_self_prepared_request": PLAIN,
    "test_respect_proxy_env_on_send_session_prepared_request": PLAIN,
    "test_respect_proxy_env_on_send_with_redirects": PLAIN,
    "test_uppercase_scheme_redirect": PLAIN,
    "test_urllib3_retries": PLAIN,
    "test_certificate_failure": "needs a server whose authority is not trusted; here it is",
    "test_pyopenssl_redirect": "passes the authority of its own test server",
    "test_proxy_authorization_preserved_on_request": "Proxy-Authorization is consumed by the proxy (RFC 9110, section 11.7.1)",
    "test_request_with_bytestring_host": "names another host than the origin's, which is answered 421 (RFC 9110, section 15.5.20)",
}

if CA:
    import requests.adapters

    requests.adapters.DEFAULT_CA_BUNDLE_PATH = CA
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        os.environ.pop(name, None)

_getaddrinfo = socket.getaddrinfo
_endheaders = http.client.HTTPConnection.endheaders


def getaddrinfo(host, *rest, **named):
    name = host.decode() if isinstance(host, bytes) else host
    return _getaddrinfo("127.0.0.1" if name and name.endswith(".localhost") else host, *rest, **named)


def endheaders(self, *rest, **named):
    """Adds the cookie to a single Cookie field, as browsers send it (RFC 6265, section 5.4), after the test's own cookies."""
    if COOKIE and self.host == HOST:
        for n, line in enumerate(self._buffer):
            if line.lower().startswith(b"cookie:"):
                self._buffer[n] = line + b"; " + COOKIE
                break
        else:
            self._buffer.append(b"Cookie: " + COOKIE)
    return _endheaders(self, *rest, **named)


socket.getaddrinfo = getaddrinfo
http.client.HTTPConnection.endheaders = endheaders


@pytest.fixture
def httpbin():
    return SimpleNamespace(url=ORIGIN)


@pytest.fixture
def httpbin_secure():
    return SimpleNamespace(url=ORIGIN)


@pytest.fixture
def httpbin_ca_bundle():
    return CA


def pytest_collection_modifyitems(config, items):
    """Keeps the tests that use httpbin; the others do not reach the gateway."""
    kept = [item for item in items if "httpbin" in getattr(item, "fixturenames", ()) or "httpbin_secure" in getattr(item, "fixturenames", ())]
    kept = [item for item in kept if item.originalname not in EXCLUDED]
    config.hook.pytest_deselected(items=[item for item in items if item not in kept])
    items[:] = kept
