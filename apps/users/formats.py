"""What the API speaks: JSON, whatever the headers of a call ask for."""

from django.utils.translation import gettext_lazy as _
from rest_framework.exceptions import ParseError
from rest_framework.negotiation import DefaultContentNegotiation
from rest_framework.parsers import JSONParser


class StrictJSONParser(JSONParser):
    def parse(self, stream, media_type=None, parser_context=None):
        """Return the decoded body; raises ParseError for what is no JSON, also for a body nested too deeply to read."""
        try:
            return super().parse(stream, media_type, parser_context)
        except (ParseError, RecursionError):
            raise ParseError(_("请求内容不是有效的JSON")) from None


class OnlyJSON(DefaultContentNegotiation):
    """Answer in JSON whatever `Accept` says: an image tag is not refused with 406, and a long header is not read."""

    def select_renderer(self, request, renderers, format_suffix=None):
        return renderers[0], renderers[0].media_type
