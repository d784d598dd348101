"""The pages of web/ as the shop serves them: few files, compressed, under names that browsers may keep forever.

web/ works as it is, on any host. A visitor of those files fetches a dozen modules, and asks at each visit whether they
have changed. So the shop serves a copy: all modules in one file, and each file named by a hash of its content.
`python -m meiduo.pages FOLDER` writes this copy for another host.

A browser that comes back from QQ gets the callback page at once, instead of a redirect to it: that saves a round trip.
"""

import gzip
import hashlib
import logging
import mimetypes
import re
import sys
from base64 import b64encode
from functools import cache
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from django.conf import settings
from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed, QueryDict
from django.http.response import HttpResponseBase
from django.utils.cache import get_conditional_response
from django.utils.html import escape
from whitenoise.middleware import WhiteNoiseMiddleware

logger = logging.getLogger(__name__)

WEB = Path(__file__).resolve().parent.parent / "web"
HASH = re.compile(r"\.[0-9a-f]{12}(?=\.[a-z]+$)")
FOREVER, REVALIDATED = "max-age=31536000, public, immutable", "max-age=0, public"
SMALL = 1024  # bytes; a picture up to this size is written into the HTML

IMPORT = re.compile(r'^import \{(\s*\w+(?:,\s*\w+)*,?\s*)\} from "\./([\w-]+\.js)";$', re.MULTILINE)
EXPORT = re.compile(r"^export (?=(?:const|function|async function) (\w+))", re.MULTILINE)
COMMENT = re.compile(r"^ *(?://.*|/\*\*(?s:.*?)\*/)\n", re.MULTILINE)
ENTRY = re.compile(r'<script type="module" src="([\w-]+\.js)">')
PRELOAD = re.compile(r' *(?:<!-- Load everything .*?-->|<link rel="modulepreload" .*?>)\n')
REFERENCE = re.compile(r'(?<=(?:href|.src)=")(/?)([\w-]+\.(?:css|svg))(?=")')
LINK = re.compile(r'((?:href|src)="|; url=)(?:\./|(?=[\w-]+[./]))')  # a relative one
HIDES_QUERY = " data-hides-query"

BUNDLE = """\
// The modules of web/. Each runs when it is first imported; the page names the one it begins with.
const modules = {
%s};
const loaded = {};
const load = (name) => (loaded[name] ??= modules[name]());
load(document.querySelector("script[data-entry]").dataset.entry);
"""


def bundle(sources: dict[str, str]) -> str:
    """Join modules, by file name, in one. Raises ValueError if one uses another form of import or export."""
    return BUNDLE % "".join(f'"{name}": () => {{\n{wrap(name, source)}}},\n' for name, source in sources.items())


def wrap(name: str, source: str) -> str:
    """Return the body of a function that runs the module and returns what it exports."""
    exported = EXPORT.findall(source)
    source = EXPORT.sub("", IMPORT.sub(r'const {\1} = load("\2");', COMMENT.sub("", source)))
    if unknown := re.search("^(?:import|export)\\b.*", source, re.MULTILINE):
        raise ValueError(f"{name}: write this import or export like those of the other modules: {unknown[0]}")
    return f"{source}return {{ {', '.join(exported)} }};\n"


def hash_name(name: str, content: bytes) -> str:
    stem, _, suffix = name.rpartition(".")
    return f"{stem}.{hashlib.sha256(content).hexdigest()[:12]}.{suffix}"


def build(web: Path) -> dict[str, bytes]:
    """Return the files of the copy by name: the HTML of `web` and what it refers to."""
    scripts = bundle({path.name: path.read_text("utf-8") for path in sorted(web.glob("*.js"))}).encode()
    scripts_name = hash_name("pages.js", scripts)
    files = {scripts_name: scripts}

    def refer(match: re.Match[str]) -> str:
        slash, name = match.groups()
        content = (web / name).read_bytes()
        if name.endswith(".svg") and len(content) <= SMALL:
            return f"data:image/svg+xml;base64,{b64encode(content).decode()}"
        files[hash_name(name, content)] = content
        return slash + hash_name(name, content)

    for page in web.glob("*.html"):
        html = PRELOAD.sub("", page.read_text("utf-8"))
        html = ENTRY.sub(rf'<script type="module" src="{scripts_name}" data-entry="\1">', html)
        files[page.name] = REFERENCE.sub(refer, html).encode()
    return files


def write(files: dict[str, bytes], folder: Path) -> None:
    """Write the files, each compressed too. Old ones stay: a page that is just being opened needs them."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
        (folder / f"{name}.gz").write_bytes(gzip.compress(content, mtime=0))


def accepts_gzip(request: HttpRequest) -> bool:
    return "gzip" in request.headers.get("Accept-Encoding", "")


class Copy(NamedTuple):
    content: bytes
    compressed: bytes
    media_type: str
    cache_control: str

    def respond(self, request: HttpRequest) -> HttpResponseBase:
        if request.method not in ("GET", "HEAD"):
            return HttpResponseNotAllowed(["GET", "HEAD"])
        is_compressed = accepts_gzip(request)
        body = self.compressed if is_compressed else self.content
        etag = f'"{hashlib.sha256(body).hexdigest()[:12]}"'
        headers = {"Cache-Control": self.cache_control, "Vary": "Accept-Encoding", "ETag": etag}
        headers["Content-Length"] = str(len(body))
        if is_compressed:
            headers["Content-Encoding"] = "gzip"
        sent = b"" if request.method == "HEAD" else body  # gunicorn would log a warning
        response = HttpResponse(sent, content_type=self.media_type, headers=headers)
        return get_conditional_response(request, etag=etag, response=response)


@cache
def load_copies(web: Path | str) -> dict[str, Copy]:
    """Return the copies by path; none if a file of the shop's own cannot be joined, because `web` works as it is."""
    try:
        files = build(Path(web))
    except (OSError, ValueError) as exc:
        logger.error("The pages are served as they are, which is slower: %s", exc)
        files = {}
    copies = {}
    for name, content in files.items():
        is_hashed = HASH.search(name)
        media_type = f"{mimetypes.guess_type(name)[0]}; charset=utf-8"
        copy = Copy(content, gzip.compress(content, mtime=0), media_type, FOREVER if is_hashed else REVALIDATED)
        copies["/" if name == "index.html" else f"/{name}"] = copy
        if is_hashed:
            # Also without the hash, for HTML of another version: during an update, another machine may have sent it.
            copies[f"/{HASH.sub('', name)}"] = copy._replace(cache_control=REVALIDATED)
    return copies


@cache
def use_absolute_links(html: bytes) -> str:
    """Return a page of the root folder as it works at any address."""
    return LINK.sub(r"\1/", html.decode())


def answer_with_page(request: HttpRequest, redirect: HttpResponseBase, copies: dict[str, Copy]) -> HttpResponseBase:
    """Answer with the page of the shop's own that `redirect` leads to, if it is one that hides its query.

    The page learns the query from its HTML. Its script then gives it its own address, in which neither QQ's code nor
    the query is left.
    """
    # Browsers that send this header know history.replaceState.
    if redirect.status_code != 302 or request.headers.get("Sec-Fetch-Dest") != "document":
        return redirect
    address, scheme = urlsplit(redirect["Location"]), urlsplit(settings.QQ_REDIRECT_URI).scheme
    is_here = (address.scheme, address.netloc) == (scheme, request.get_host())
    copy = copies.get(address.path)
    is_plain = not address.fragment and "error" not in QueryDict(address.query)  # an error may leave QQ's code unused
    if not (is_here and is_plain and copy) or HIDES_QUERY not in (html := use_absolute_links(copy.content)):
        return redirect
    query = f' data-path="{escape(address.path)}" data-query="?{escape(address.query)}"'
    html = html.replace(HIDES_QUERY, HIDES_QUERY + query, 1)
    response = HttpResponse(html, headers={"Cache-Control": "no-store"})
    if accepts_gzip(request):
        response.content = gzip.compress(response.content, compresslevel=4)  # a third cheaper than 9, and 1 % longer
        response.headers["Content-Encoding"] = "gzip"
    response.headers["Content-Length"] = str(len(response.content))
    response.cookies = redirect.cookies
    request.path_info = address.path  # other middleware adds the headers that this page needs
    return response


class PagesMiddleware(WhiteNoiseMiddleware):
    """Serve the copy in place of the pages in WHITENOISE_ROOT. With DEBUG, serve these: they may change any time."""

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        copies = {} if self.autorefresh else load_copies(settings.WHITENOISE_ROOT)
        if copy := copies.get(request.path_info) or copies.get(HASH.sub("", request.path_info)):
            return copy.respond(request)
        return answer_with_page(request, super().__call__(request), copies)


if __name__ == "__main__":
    write(build(WEB), Path(sys.argv[1]))
