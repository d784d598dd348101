"""The people who can sign in, and QQ's data about them."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

# Prepared people with their nicknames. Any other name can be typed on the login page and is its own nickname.
PEOPLE = {"张小明": "张小明", "李思思": "李思思", "小企鹅🐧": "小企鹅🐧", "没有昵称的人": ""}

USER_INFO = """{
    "ret": 0,
    "msg": "",
    "is_lost":0,
    "nickname": %(nickname)s,
    "gender": "男",
    "gender_type": 2,
    "province": "广东",
    "city": "深圳",
    "year": "1990",
    "constellation": "",
    "figureurl": "http:\\/\\/qzapp.qlogo.cn\\/qzapp\\/%(client_id)s\\/%(openid)s\\/30",
    "figureurl_1": "http:\\/\\/qzapp.qlogo.cn\\/qzapp\\/%(client_id)s\\/%(openid)s\\/50",
    "figureurl_2": "http:\\/\\/qzapp.qlogo.cn\\/qzapp\\/%(client_id)s\\/%(openid)s\\/100",
%(avatars)s
    "figureurl_type": "1",
    "is_yellow_vip": "0",
    "vip": "0",
    "yellow_vip_level": "0",
    "level": "0",
    "is_yellow_year_vip": "0"
}"""

# The URLs QQ has used over the years, with their sizes.
AVATARS = {
    "qzapp": (r"http:\/\/qzapp.qlogo.cn\/qzapp\/%(client_id)s\/%(openid)s\/%(size)s", (50, 100, 100)),
    "qqapp": ("http://q.qlogo.cn/qqapp/%(client_id)s/%(openid)s/%(size)s", (40, 100, 100)),
    "thirdqq_g": ("http://thirdqq.qlogo.cn/g?b=oidb&k=%(short)s&s=%(size)s&t=1557635654", (40, 100, 640)),
    "thirdqq_ek": ("http://thirdqq.qlogo.cn/ek_qqapp/%(long)s/%(size)s", (40, 100, 100)),
}
AVATAR_FIELDS = ("figureurl_qq_1", "figureurl_qq_2", "figureurl_qq")


def make_openid(person: str, client_id: str = "") -> str:
    """Return the person's openid: for the web application, or for another one if `client_id` is given."""
    return hashlib.md5(f"{client_id} {person}".encode() if client_id else person.encode()).hexdigest().upper()


def make_unionid(person: str, client_id: str = "") -> str:
    """Return the person's unionid for the three applications, or for a foreign one if `client_id` is given."""
    return "UID_" + make_openid(f"unionid {person}", client_id)


def format_user_info(person: str, client_id: str, openid: str, behaviour: Mapping[str, Any]) -> str:
    """Return the answer of get_user_info, with QQ's own mixture of escaped and plain slashes."""
    nickname = PEOPLE.get(person, person) if behaviour["nickname"] is None else behaviour["nickname"]
    key = hashlib.md5(b"avatar " + person.encode()).hexdigest()
    values = {"client_id": client_id, "openid": openid, "short": key[:22], "long": key * 3}
    url, sizes = AVATARS[behaviour["avatar"]]
    avatars = {name: url % {**values, "size": size} for name, size in zip(AVATAR_FIELDS, sizes, strict=True)}
    if behaviour["figureurl_qq_2"] == "empty":
        avatars["figureurl_qq_2"] = ""
    elif behaviour["figureurl_qq_2"] == "absent":
        del avatars["figureurl_qq_2"]
    text = USER_INFO % {
        **values,
        "nickname": json.dumps(nickname, ensure_ascii=False),
        "avatars": "\n".join(f'    "{name}": "{avatar}",' for name, avatar in avatars.items()),
    }
    return text.replace('": "http:', '": "https:') if behaviour["avatar_https"] else text
