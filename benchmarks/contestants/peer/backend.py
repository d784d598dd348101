from django.conf import settings
from social_core.backends.qq import QQOAuth2

REAL_URL = "https://graph.qq.com"


class QQ(QQOAuth2):
    ACCESS_TOKEN_URL = f"{settings.QQ_URL}/oauth2.0/token"
    OPENID_URL = f"{settings.QQ_URL}/oauth2.0/me"

    def get_json(self, url, *args, **kwargs):
        # The third address is hard-coded in the backend's method.
        return super().get_json(url.replace(REAL_URL, settings.QQ_URL), *args, **kwargs)
