"""Chinese first, English second: which of the two a request gets, and how a sentence is translated."""

from contextlib import AbstractContextManager, nullcontext

from django.http import HttpRequest
from django.utils.functional import lazy
from django.utils.translation import get_language, gettext, override
from django.utils.translation.trans_real import parse_accept_lang_header

CHINESE, ENGLISH = "zh-hans", "en"


def choose_language(accept_language: str) -> str:
    """Return CHINESE or ENGLISH, whichever an Accept-Language header prefers; CHINESE if it names neither."""
    for tag, quality in parse_accept_lang_header(accept_language.lower()):
        for language in (CHINESE, ENGLISH):
            if quality and tag.partition("-")[0] == language.partition("-")[0]:
                return language
    return CHINESE


def use_language(request: HttpRequest) -> AbstractContextManager[None]:
    """Return a context in which sentences are in the request's language."""
    language = choose_language(request.META.get("HTTP_ACCEPT_LANGUAGE", ""))
    return nullcontext() if get_language() == language else override(language)


def translate(text: str) -> str:
    """Return a Chinese source text in the active language."""
    # gettext() would translate Chinese into the shop's LANGUAGE_CODE if that is English.
    return gettext(text) if get_language() == ENGLISH else text


translate_lazy = lazy(translate, str)  # for what is evaluated at import, as the messages of a form's field are
