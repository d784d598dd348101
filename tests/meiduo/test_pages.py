"""The files of the pages: what they have in common, and that each text is in both languages."""

import re
from html.parser import HTMLParser

import pytest

from tests.tools.processes import ROOT

WEB = ROOT / "web"
PAGES = {path.name: path.read_text(encoding="utf-8") for path in WEB.glob("*.html")}
HAN = re.compile("[\u3000-\u303f\u3400-\u9fff\uff01-\uff60]")
SHOWN_BY_SCRIPTS = ["texts.js", "faces.js", "shop.js"]


def test_pages_notice_alike_that_their_module_never_came():
    """Each page needs its own copy: no other file may have arrived."""
    pages = [page for page in PAGES.values() if '<script type="module"' in page]
    assert len(pages) == 6
    for pattern in ("<script>.*?</script>", '<section id="stuck".*?</section>', "<noscript>\n.*?</noscript>"):
        copies = ["".join(re.findall(pattern, page, re.DOTALL)) for page in pages]
        # Each page has its own links.
        shapes = {re.sub('(<a class="[a-z]+" href=").*?(</a>)', r"\1\2", copy, flags=re.DOTALL) for copy in copies}
        assert len(shapes) == 1
        assert shapes != {""}
    policies = [re.findall('http-equiv="Content-Security-Policy" content="(.*?)"', page) for page in pages]
    assert policies == [policies[0]] * 6


@pytest.mark.parametrize("page", [name for name in PAGES if not name[0].isdigit()])
def test_page_preloads_all_its_scripts(page):
    (entry,) = re.findall('<script type="module" src="(.+?)">', PAGES[page])
    needed, scripts = set(), [entry]
    while scripts:
        needed.add(script := scripts.pop())
        scripts += {*re.findall(r'from "\./([^"]+)"', (WEB / script).read_text(encoding="utf-8"))} - needed
    preloaded = re.findall('<link rel="modulepreload" href="(.+?)">', PAGES[page])
    assert {*preloaded} == needed - {entry} != set()


class Texts(HTMLParser):
    """Collects (language, text) of a page; language None is outside of an element that names one."""

    def __init__(self, page):
        super().__init__()
        self.texts, self.languages, self.skipped = [], [], 0
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        if tag in ("span", "button"):
            self.languages.append(attrs.get("lang"))
        if tag in ("script", "title"):
            self.skipped += 1
        for name in ("alt", "title", "aria-label", "placeholder", "value"):
            assert not attrs.get(name), f"{name} of {tag} is in one language: write a text instead"

    def handle_endtag(self, tag):
        if tag in ("span", "button"):
            self.languages.pop()
        if tag in ("script", "title"):
            self.skipped -= 1

    def handle_data(self, data):
        if data.strip() and not self.skipped:
            language = next((name for name in reversed(self.languages) if name), None)
            self.texts.append((language, data.strip()))


@pytest.mark.parametrize("page", PAGES)
def test_each_text_of_a_page_is_there_once_in_each_language(page):
    pairs = re.findall('<span lang="zh-CN">(.*?)</span>(?:<span lang="en">(.*?)</span>)?', PAGES[page])
    assert len(pairs) == PAGES[page].count('<span lang="en">') > 0
    assert [pair for pair in pairs if not all(pair)] == []
    texts = Texts(PAGES[page]).texts
    assert [text for language, text in texts if language is None] == []
    assert [text for language, text in texts if language == "en" and HAN.search(text)] == []
    assert [text for language, text in texts if language == "zh-CN" and not HAN.search(text)] == []
    ((chinese, english),) = re.findall('<title data-zh="(.+?)" data-en="(.+?)">', PAGES[page])
    assert (bool(HAN.search(chinese)), HAN.search(english)) == (True, None)
    assert f">{chinese}</title>" in PAGES[page]  # without scripts


@pytest.mark.parametrize("script", SHOWN_BY_SCRIPTS)
def test_each_text_of_the_scripts_is_a_pair_of_chinese_and_english(script):
    source = re.sub(r"\s//.*", "", (WEB / script).read_text(encoding="utf-8"))
    strings = re.findall(r'"(?:[^"\\]|\\.)*"|`[^`]*`', source)
    pairs = re.findall(r'\[\s*("[^"]*"|`[^`]*`),\s*("[^"]*"|`[^`]*`)(?:\s*\+ "[^"]*")*,?\s*\]', source)
    assert len(pairs) > 1
    assert [pair for pair in pairs if not HAN.search(pair[0]) or HAN.search(pair[1]) or len(pair[1]) < 3] == []
    in_pairs = {text for pair in pairs for text in pair}
    assert [text for text in strings if HAN.search(text) and text not in in_pairs] == []


def test_scripts_with_no_text_of_their_own_show_none():
    others = [path for path in WEB.glob("*.js") if path.name not in SHOWN_BY_SCRIPTS]
    assert len(others) > 10
    found = {path.name: HAN.findall(path.read_text(encoding="utf-8")) for path in others}
    assert {name: "".join(found[name]) for name in found if found[name]} == {"language.js": "美多商城"}
