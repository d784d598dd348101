"""Login tokens, which the shop's pages send as `Authorization: JWT <token>`."""

from contextlib import suppress
from datetime import timedelta
from functools import cache
from typing import TypedDict

from django.conf import settings
from django.contrib.auth import get_user_model
from django.utils.translation import gettext_lazy as _
from rest_framework.exceptions import AuthenticationFailed
from rest_framework_simplejwt.authentication import JWTAuthentication
from rest_framework_simplejwt.backends import TokenBackend
from rest_framework_simplejwt.exceptions import TokenBackendError, TokenError
from rest_framework_simplejwt.settings import api_settings
from rest_framework_simplejwt.tokens import Token

from . import jws

LOGIN_ENDED = _("登录已失效，请重新登录。")


class LoginToken(Token):
    """The only kind of token, with the claims `user_id`, `username`, `gen`, `exp`, `iat` and `jti`."""

    token_type = "login"  # simplejwt requires a name; for_user() removes it from the token
    lifetime = timedelta(hours=24)

    @classmethod
    def for_user(cls, user):
        """Return a new token for a saved User. The caller checks whether the account may log in."""
        token = cls()
        del token[api_settings.TOKEN_TYPE_CLAIM]
        token["user_id"] = user.pk
        token["username"] = user.get_username()
        token["gen"] = user.token_generation
        return token

    def get_token_backend(self):
        options = settings.SIMPLE_JWT
        return get_signing_keys(options["ALGORITHM"], options["SIGNING_KEY"], options["LEEWAY"])

    def verify(self):
        if settings.JWT_OLD_TOKENS:
            # Tokens of djangorestframework-jwt lack both claims. They count as the first generation of their account,
            # so the first change of its password invalidates them.
            self.payload = {"jti": "", "gen": 0} | self.payload
        super().verify()
        # The leeway is for servers whose clocks differ, where a new token may seem to come from the future. It does not
        # extend the lifetime.
        self.check_exp(current_time=self.current_time + self.get_token_backend().get_leeway())

    def verify_token_type(self):
        pass


class SigningKeys(TokenBackend):
    """Sign with the current key. Verify with it or with an older one, until the last tokens of that one expire."""

    def encode(self, payload):
        return jws.encode(payload, self.prepared_signing_key, self.algorithm)

    def decode(self, token, verify=True):
        try:
            return super().decode(token, verify)
        except TokenBackendError as exc:
            for key in settings.JWT_SIGNING_KEY_FALLBACKS:
                with suppress(TokenBackendError):
                    return TokenBackend(self.algorithm, key, leeway=self.leeway).decode(token, verify)
            raise exc from None


@cache
def get_signing_keys(algorithm, key, leeway):
    # Cached, because preparing a key takes long.
    return SigningKeys(algorithm, key, leeway=leeway)


class LoginTokenAuthentication(JWTAuthentication):
    """Find the user of a login token.

    The answer is the same 401 for a malformed or expired token, for one of an earlier generation, and for one of a
    deleted or disabled account.
    """

    def get_header(self, request):
        header = request.META.get(api_settings.AUTH_HEADER_NAME)
        # WSGI servers decode headers as latin-1; a token of ours never contains anything else.
        return header.encode("latin-1", "replace") if isinstance(header, str) else header

    def get_raw_token(self, header):
        try:
            return super().get_raw_token(header)
        except AuthenticationFailed:
            raise AuthenticationFailed(LOGIN_ENDED) from None

    def get_validated_token(self, raw_token):
        try:
            return LoginToken(raw_token)
        except TokenError:
            raise AuthenticationFailed(LOGIN_ENDED) from None

    def get_user(self, validated_token):
        user_id, generation = validated_token.get("user_id"), validated_token.get("gen")
        user = None
        if type(user_id) is type(generation) is int:  # a database query fails for other types, such as a list
            users = get_user_model().objects
            user = users.filter(pk=user_id, token_generation=generation, is_active=True).first()
        if user is None:
            raise AuthenticationFailed(LOGIN_ENDED)
        return user


class LoginPayload(TypedDict):
    token: str
    user_id: int
    username: str


def login_payload(user, request) -> LoginPayload:
    """Return the body of a login's answer (dict). `request` is DRF's; another shop's function may need it."""
    return {"token": str(LoginToken.for_user(user)), "user_id": user.pk, "username": user.get_username()}
