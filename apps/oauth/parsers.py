"""JSON in, JSON out, whatever the request's headers ask for."""

from collections.abc import Mapping
from typing import IO, Any

from django.utils.translation import gettext_noop as _
from rest_framework.exceptions import ParseError
from rest_framework.negotiation import DefaultContentNegotiation
from rest_framework.parsers import JSONParser
from rest_framework.request import Request

from .errors import BodyTooLarge
from .language import translate
from .qq.answers import read_json

MAX_BODY = 16 * 1024  # bytes; the longest form has a few short fields


class StrictJSONParser(JSONParser):
    """Parse JSON that is short, UTF-8, has no duplicate names and is not nested deeper than Python can follow."""

    def parse(
        self, stream: IO[Any], media_type: str | None = None, parser_context: Mapping[str, Any] | None = None
    ) -> Any:
        """Return the body. Raises BodyTooLarge and ParseError."""
        body = stream.read(MAX_BODY + 1)
        if len(body) > MAX_BODY:
            raise BodyTooLarge
        try:
            return read_json(body.decode())
        except (ValueError, RecursionError):
            raise ParseError(translate(_("请求内容不是有效的 JSON。"))) from None


class JSONOnlyNegotiation(DefaultContentNegotiation):
    """Answer in JSON whatever Accept says: an <img> request gets no 406, and a long header is not parsed."""

    def select_renderer(self, request: Request, renderers: Any, format_suffix: str | None = None) -> Any:
        return renderers[0], renderers[0].media_type
