"""The least a login can be in Python: one call to QQ, one look-up, one token; no framework, no checks, no log.

BARE_REDIS_TRIPS adds as many round trips to Redis as our login makes. They show the cost of the guarantee that a code
works once and in one browser only.
"""

import json
import os
import time
from contextlib import AsyncExitStack
from urllib.parse import urlencode, urlsplit

import aiohttp
import asyncmy
import jwt
import redis.asyncio

KEY = os.environ["SECRET_KEY"]
TRIPS = int(os.environ.get("BARE_REDIS_TRIPS", 0))
URL = os.environ["QQ_API_URL"] + "/oauth2.0/token?"
QUERY = {
    "grant_type": "authorization_code",
    "client_id": os.environ["QQ_CLIENT_ID"],
    "client_secret": os.environ["QQ_CLIENT_SECRET"],
    "redirect_uri": os.environ["QQ_REDIRECT_URI"],
    "fmt": "json",
    "need_openid": "1",
}
LOOK_UP = "SELECT u.id, u.username FROM tb_oauth_qq q JOIN tb_users u ON u.id = q.user_id WHERE q.openid = %s"


async def login(code):
    for trip in range(TRIPS):
        key = f"{code}:{trip // 2}"
        await (cache.get(key) if trip % 2 else cache.set(key, 1, nx=True, ex=600))
    async with qq.get(URL + urlencode({**QUERY, "code": code})) as response:
        openid = json.loads(await response.read())["openid"]
    async with database.acquire() as connection, connection.cursor() as cursor:
        await cursor.execute(LOOK_UP, (openid,))
        user_id, username = await cursor.fetchone()
    payload = {"user_id": user_id, "username": username, "exp": int(time.time()) + 24 * 3600}
    return {"token": jwt.encode(payload, KEY, "HS256"), "user_id": user_id, "username": username}


async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        return await live(receive, send)
    is_known = scope["path"] == "/oauth/qq/users/"
    answer = await login(scope["query_string"].decode().removeprefix("code=")) if is_known else {}
    body = json.dumps(answer).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200 if is_known else 404, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def live(receive, send):
    global qq, database, cache
    url = urlsplit(os.environ["DATABASE_URL"])
    async with AsyncExitStack() as stack:
        await receive()
        qq = await stack.enter_async_context(aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)))
        database = await asyncmy.create_pool(
            host=url.hostname,
            port=url.port,
            user=url.username,
            password=url.password,
            db=url.path.lstrip("/"),
            minsize=4,
            maxsize=4,
            autocommit=True,
        )
        cache = redis.asyncio.from_url(os.environ["CACHE_URL"])
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.complete"})
