from urllib.parse import urlsplit

from django.urls import reverse
from rest_framework.request import Request
from rest_framework.response import Response

from ..conf import conf
from ..flow.purpose import Purpose
from ..validation import quote_next, read_next, read_purpose
from .base import QQView


class QQAuthorizationView(QQView):
    """`GET authorization/?next=`: where the page's QQ button leads."""

    def get(self, request: Request) -> Response:
        """Return the address of login/, under each name that the shops' pages read."""
        query = f"next={quote_next(read_next(request.query_params, 'next', 'state'))}"
        if read_purpose(request.query_params) == Purpose.LINK:
            query += f"&purpose={Purpose.LINK}"
        origin = urlsplit(conf.REDIRECT_URI)  # not the request's, which a proxy may have changed
        url = f"{origin.scheme}://{origin.netloc}{reverse('oauth:login')}?{query}"
        return Response(dict.fromkeys(("login_url", "auth_url", "oauth_url", "url", "qq_login_url"), url))
