"""QQ's error numbers and their texts."""

# Captured from QQ. Some texts end in a space in the callback form and on the error page.
TEXTS = {
    100001: "param client_id is wrong or lost ",
    100002: "param client_secret is wrong or lost ",
    100005: "param code is wrong or lost",
    100008: "client id is illegal, not exist [appid: {client_id}] ",
    100009: "client secret is illegal",
    100010: "redirect uri is illegal",
    100013: "access token is illegal",
    100016: "access token check failed",
    100019: "code to access token error",
    100020: "code is reused error",
    100021: "get access token error",
    100048: "companyid not set",
    1002: "请先登录",
    -1: "client request's parameters are invalid, invalid openid",
    # No capture of these is public; their wording follows the others.
    100000: "param response_type is wrong or lost",
    100004: "param grant_type is wrong or lost",
    100006: "param refresh_token is wrong or lost",
    100007: "param access_token is wrong or lost",
    100011: "app is not online",
    100014: "access token is expired",
    100015: "access token is revoked",
    100022: "get refresh token error",
    100030: "api is not authorized by user",
    100031: "app has no right to the api",
    # From an older interface of QQ, with signed calls; nobody has reported them from get_user_info.
    1001: "system busy",
    -4: "ip is not allowed",
    -6: "call frequency over limit",
    -58: "backend timeout",
    -60: "backend timeout",
}
# The errors of jscode2session. QQ documents only the first three, and no wording but the second.
MINI_TEXTS = {
    -1: "system busy",
    40029: "invalid code",
    45011: "frequency limit",
    40002: "invalid grant_type",
    40013: "invalid appid",
    40125: "invalid secret",
}


class Refused(Exception):
    """QQ refuses the request with an error number, and optionally a text other than the usual one."""

    def __init__(self, number: int, text: str | None = None) -> None:
        self.number = number
        self.text = text


def get_text(number: int, client_id: str) -> str:
    return TEXTS.get(number, "unknown error").replace("{client_id}", client_id)
