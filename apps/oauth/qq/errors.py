"""Errors of a call to QQ, one class per reaction of the caller, and QQ's table of error numbers."""


class QQError(Exception):
    """A call to QQ failed. `number` is QQ's own error number, if it gave one."""

    def __init__(self, reason: str, number: int | None = None) -> None:
        super().__init__(reason)
        self.number = number


class QQRejected(QQError):
    """QQ does not accept the code or token: the user must log in again."""


class QQMisconfigured(QQError):
    """QQ does not accept our client_id, client_secret, redirect_uri or rights: the operator must act."""


class QQBusy(QQError):
    """All slots are in use. Nothing was sent: the same call may be repeated later."""


class QQUnavailable(QQError):
    """QQ gave no usable answer (time-out, server error, unreadable body). The code may be used up: log in again."""


class QQCircuitOpen(QQUnavailable):
    """QQ has failed repeatedly. Nothing was sent: the same call may be repeated later."""


class QQCertificateError(QQUnavailable):
    """QQ's certificate is not accepted, so nothing was sent. The cause is this machine or the network."""


class QQForeignToken(QQUnavailable):
    """The access_token was issued to another application: a sign of an attack."""


class QQForeignAppToken(QQForeignToken):
    """An app has sent such a token: it is the sender's fault, not QQ's."""


# The numbers of 公共返回码说明, grouped by who must act. All other numbers, 100017-100027 and
# 1105xx among them, are QQ's own failures.

# The user
REJECTED = {
    100005,  # code missing or malformed; we always send one, so it came from the user
    100013,  # access_token invalid
    100014,  # access_token expired
    100015,  # access_token revoked
    100016,  # access_token not verified
    100019,  # code not accepted
    100020,  # code used twice
    100030,  # user has not granted this API
    110201,  # user not logged in
}
# The operator: a parameter of the request, or the application's registration and rights
NO_UNIONID_RIGHT = 100048
MISCONFIGURED = {
    *range(100000, 100005),  # response_type, client_id, client_secret, Authorization, grant_type
    *range(100006, 100013),  # refresh_token, access_token, client_id, client_secret, redirect_uri, not online, not POST
    100028,  # parameter `which` missing
    100029,  # bad HTTP request
    100031,  # no right to this API
    100044,  # wrong signature of a phone app
    NO_UNIONID_RIGHT,
    110401,  # unknown application
    110404,  # client_id missing
    110406,  # application not approved
    110407,  # application taken down
}


def make_error(number: int) -> QQError:
    """Return the error that one of QQ's numbers stands for."""
    error_class = QQRejected if number in REJECTED else QQMisconfigured if number in MISCONFIGURED else QQUnavailable
    return error_class(f"QQ answered with error {number}", number)
