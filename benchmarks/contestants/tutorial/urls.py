import json
import time
from urllib.parse import parse_qs, urlencode
from urllib.request import urlopen

import jwt
from django.conf import settings
from django.urls import path
from rest_framework.response import Response
from rest_framework.views import APIView

from .models import OAuthQQUser


class OAuthQQ:
    def get_access_token(self, code):
        params = {
            "grant_type": "authorization_code",
            "client_id": settings.QQ_CLIENT_ID,
            "client_secret": settings.QQ_CLIENT_SECRET,
            "code": code,
            "redirect_uri": settings.QQ_REDIRECT_URI,
        }
        response = urlopen(f"{settings.QQ_URL}/oauth2.0/token?{urlencode(params)}")
        return parse_qs(response.read().decode())["access_token"][0]

    def get_openid(self, access_token):
        response = urlopen(f"{settings.QQ_URL}/oauth2.0/me?access_token={access_token}")
        return json.loads(response.read().decode()[10:-4])["openid"]


class QQAuthUserView(APIView):
    def get(self, request):
        code = request.query_params.get("code")
        if not code:
            return Response({"message": "缺少code"}, status=400)
        oauth = OAuthQQ()
        openid = oauth.get_openid(oauth.get_access_token(code))
        try:
            qq_user = OAuthQQUser.objects.get(openid=openid)
        except OAuthQQUser.DoesNotExist:
            return Response({"access_token": "…"})
        user = qq_user.user
        payload = {"user_id": user.id, "username": user.username, "exp": int(time.time()) + 24 * 3600}
        token = jwt.encode(payload, settings.SECRET_KEY, "HS256")
        return Response({"token": token, "user_id": user.id, "username": user.username})


urlpatterns = [path("oauth/qq/users/", QQAuthUserView.as_view())]
