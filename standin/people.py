"""The people who can sign in, and QQ's data about them."""

import hashlib
import json

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
    "figureurl_qq_1": "http://thirdqq.qlogo.cn/g?b=oidb&k=%(avatar)s&s=40&t=1557635654",
    "figureurl_qq_2": "http://thirdqq.qlogo.cn/g?b=oidb&k=%(avatar)s&s=100&t=1557635654",
    "figureurl_qq": "http://thirdqq.qlogo.cn/g?b=oidb&k=%(avatar)s&s=640&t=1557635654",
    "figureurl_type": "1",
    "is_yellow_vip": "0",
    "vip": "0",
    "yellow_vip_level": "0",
    "level": "0",
    "is_yellow_year_vip": "0"
}"""


def make_openid(person: str) -> str:
    return hashlib.md5(person.encode()).hexdigest().upper()


def make_unionid(person: str) -> str:
    return "UID_" + hashlib.md5(b"unionid " + person.encode()).hexdigest().upper()


def format_user_info(person: str, client_id: str, openid: str) -> str:
    """Return the answer of get_user_info, with QQ's own mixture of escaped and plain slashes."""
    return USER_INFO % {
        "nickname": json.dumps(PEOPLE.get(person, person), ensure_ascii=False),
        "client_id": client_id,
        "openid": openid,
        "avatar": hashlib.md5(b"avatar " + person.encode()).hexdigest()[:22],
    }
