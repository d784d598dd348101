"""Chinese is the source text; every sentence has its English."""

import re
from pathlib import Path

from apps.oauth.old_errors import ERRORS, translate
from django.utils.translation import override

APP = Path(__file__).resolve().parents[2] / "apps" / "oauth"


def test_every_sentence_of_the_app_has_an_english_one():
    sources = "".join(path.read_text("utf-8") for path in APP.glob("*.py"))
    sentences = re.findall(r'\b_\("([^"]+)"\)', sources)
    assert len(sentences) > len(ERRORS)
    with override("en"):
        assert [text for text in sentences if not translate(text).isascii()] == []
