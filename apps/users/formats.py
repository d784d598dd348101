"""What the API speaks: JSON, whatever the headers of a call ask for."""

import json

from django.utils.translation import gettext_lazy as _
from rest_framework.exceptions import ParseError
from rest_framework.negotiation import DefaultContentNegotiation
from rest_framework.parsers import JSONParser


class StrictJSONParser(JSONParser):
    def parse(self, stream, media_type=None, parser_context=None):
        """Return the body. Raises ParseError for what is no JSON in UTF-8, names a thing twice or nests too deep."""
        try:
            return json.loads(stream.read().decode(), object_pairs_hook=_unique, parse_constant=_refuse)
        except (ValueError, RecursionError):
            raise ParseError(_("请求内容不是有效的 JSON。")) from None


def _unique(pairs):
    """Return the object; who reads the first of two names and who reads the last would see different things."""
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError
    return found


def _refuse(constant):
    raise ValueError  # NaN and Infinity are no JSON


class OnlyJSON(DefaultContentNegotiation):
    """Answer in JSON whatever `Accept` says: an image tag is not refused with 406, and a long header is not read."""

    def select_renderer(self, request, renderers, format_suffix=None):
        return renderers[0], renderers[0].media_type
