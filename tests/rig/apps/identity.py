# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026, the locki.vaettir authors
"""An OpenID provider that knows one person, and asks her nothing."""

from __future__ import annotations

import time
from urllib.parse import urlencode

from aiohttp import web
from joserfc import jwt
from joserfc.jwk import RSAKey

ISSUER, PUBLIC = "http://127.0.0.1:9100", "https://identity.vaettir.example:8443"
KEY = RSAKey.generate_key(2048, {"kid": "one", "use": "sig", "alg": "RS256"})
nonces: dict[str, str] = {}  # by code


async def metadata(_request: web.Request) -> web.Response:
    """A browser goes to the public name, the app asks next door."""
    return web.json_response(
        {
            "issuer": ISSUER,
            "authorization_endpoint": f"{PUBLIC}/authorize",
            "token_endpoint": f"{ISSUER}/token",
            "jwks_uri": f"{ISSUER}/keys",
            "response_types_supported": ["code"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["RS256"],
        }
    )


async def authorize(request: web.Request) -> web.Response:
    code = f"code{len(nonces)}"
    nonces[code] = request.query.get("nonce", "")
    back = urlencode({"code": code, "state": request.query["state"]})
    raise web.HTTPFound(f"{request.query['redirect_uri']}?{back}")


async def token(request: web.Request) -> web.Response:
    code = str((await request.post())["code"])
    now = int(time.time())
    claims = {"iss": ISSUER, "aud": "ocapistaine", "sub": "1", "iat": now, "exp": now + 3600, "name": "Anna"}
    signed = jwt.encode({"alg": "RS256", "kid": "one"}, {**claims, "nonce": nonces.pop(code)}, KEY)
    return web.json_response({"access_token": "none", "token_type": "Bearer", "id_token": signed})


async def keys(_request: web.Request) -> web.Response:
    return web.json_response({"keys": [KEY.as_dict(private=False)]})


app = web.Application()
app.router.add_get("/.well-known/openid-configuration", metadata)
app.router.add_get("/authorize", authorize)
app.router.add_post("/token", token)
app.router.add_get("/keys", keys)

if __name__ == "__main__":
    web.run_app(app, host="0.0.0.0", port=9100, print=lambda *_: None)
