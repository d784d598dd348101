"""Ready-made pieces for shops built after the meiduo tutorial.

QQ_ACCOUNT_SERIALIZER and QQ_LOGIN_PAYLOAD name them by dotted path. Importing this package needs none of the shop's own
packages (django_redis, rest_framework_jwt, rest_framework_simplejwt): they are imported when they are used.
"""

from .payloads import jwt_payload, simplejwt_payload
from .serializers import AccountSerializer, MobileAccountSerializer

__all__ = ["AccountSerializer", "MobileAccountSerializer", "jwt_payload", "simplejwt_payload"]
