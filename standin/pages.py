"""The HTML pages of the stand-in. All text that comes from a request is escaped."""

import json
import shlex
from collections.abc import Iterable, Mapping
from html import escape

from starlette.responses import HTMLResponse

from .state import APP_ID, MINI_APP_ID

STYLE = """
* { box-sizing: border-box }
body { margin: 0; padding: 16px; background: #eef3f8; color: #1d2733; line-height: 1.5;
       font-family: system-ui, "PingFang SC", "Microsoft YaHei", "Noto Sans CJK SC", sans-serif }
main { max-width: 420px; margin: 4vh auto; padding: 24px 20px; background: #fff; border-radius: 14px;
       box-shadow: 0 4px 24px #0a2a4a1f; overflow-wrap: anywhere }
h1 { margin: 0 0 4px; font-size: 1.35rem }
h2 { margin: 24px 0 8px; font-size: 1rem }
[lang=en] { color: #56657a; font-size: .85rem }
h1 [lang=en], h2 [lang=en] { font-weight: normal }
.note { margin: 0 0 20px; padding: 10px 12px; border-left: 4px solid #d98200; border-radius: 4px; background: #fff5e2 }
.note [lang=en] { display: block }
code { font-size: .9em }
pre { margin: 8px 0; padding: 12px; border-radius: 10px; background: #f2f5f9; font-size: .85em; white-space: pre-wrap }
button, select, input[type=text] { width: 100%; min-height: 48px; padding: 8px 14px; font: inherit; color: inherit;
       border: 1px solid #c3cfdc; border-radius: 10px; background: #fff }
button { cursor: pointer; margin-top: 8px; text-align: left }
button:hover { background: #f2f8ff; border-color: #0b76d1 }
button:focus-visible, select:focus-visible, input:focus-visible { outline: 3px solid #0b76d1; outline-offset: 1px }
button[name=login] [lang=en] { display: block }
button.go { background: #0869bd; border-color: #0869bd; color: #fff; text-align: center }
button.go:hover { background: #07579d }
button.go [lang=en] { color: #fff }
button.cancel { text-align: center; margin-top: 24px }
ul { margin: 4px 0; padding-left: 20px }
"""

NOTE = """<p class="note">这是开发用的替身，不是腾讯的 QQ，不要输入真实密码。
<span lang="en">A stand-in for development, not Tencent's QQ. Never type a real password.</span></p>"""


def _page(title: str, english: str, content: str) -> HTMLResponse:
    return HTMLResponse(
        f"""<!DOCTYPE html>
<html lang="zh-CN">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<link rel="icon" href="data:,">
<title>{title} · QQ 替身</title>
<style>{STYLE}</style>
</head>
<body>
<main>
<h1>{title} <span lang="en">{english}</span></h1>
{NOTE}
{content}
</main>
</body>
</html>
""",
        headers={"cache-control": "no-store"},
    )


def _format_list(callbacks: Iterable[str]) -> str:
    return "<ul>" + "".join(f"<li><code>{escape(callback)}</code></li>" for callback in callbacks) + "</ul>"


def login(query: Iterable[tuple[str, str]], people: Mapping[str, str], client_id: str) -> HTMLResponse:
    """Show the people to choose from. Each form posts the query of /oauth2.0/authorize together with the choice."""
    hidden = "\n".join(f'<input type="hidden" name="{escape(name)}" value="{escape(value)}">' for name, value in query)
    buttons = "\n".join(
        f'<button name="person" value="{escape(person)}">{escape(person)}'
        + ("" if nickname else ' <span lang="en">nickname is empty</span>')
        + "</button>"
        for person, nickname in people.items()
    )
    return _page(
        "QQ 登录",
        "Sign in",
        f"""<p>应用 <code>{escape(client_id)}</code> 想知道您是谁。
<span lang="en">This app wants to identify you.</span></p>
<form method="post" action="/oauth2.0/authorize">
{hidden}
<h2>选一个人 <span lang="en">Choose a person</span></h2>
{buttons}
<button class="cancel" name="cancel" value="1">取消 <span lang="en">Cancel</span></button>
</form>
<form method="post" action="/oauth2.0/authorize">
{hidden}
<h2><label for="other">或者任何人 <span lang="en">Or anyone else</span></label></h2>
<input type="text" id="other" name="person" required autocomplete="off" placeholder="名字">
<button class="go">登录 <span lang="en">Sign in</span></button>
</form>""",
    )


def error(message: str, redirect_uri: str, callbacks: Iterable[str]) -> HTMLResponse:
    return _page(
        "登录出错",
        "Error",
        f"""<p role="alert"><strong>{escape(message)}</strong></p>
<h2>请求的回调地址 <span lang="en">Requested callback</span></h2>
<p><code>{escape(redirect_uri) or "–"}</code></p>
<h2>已登记的回调地址 <span lang="en">Registered callbacks</span></h2>
{_format_list(callbacks)}""",
    )


def closed() -> HTMLResponse:
    return _page(
        "已取消",
        "Cancelled",
        """<p>QQ 的登录页在这里关闭，不会回到网站。 <span lang="en">QQ's page closes here and does not return to
the site.</span></p>
<p>在电脑上，真正的 QQ 也是这样。手机上会带着 usercancel 回到网站。
<span lang="en">The real QQ does the same on a PC. On a phone it returns to the site with usercancel.</span></p>""",
    )


def index(client_id: str, callbacks: Iterable[str]) -> HTMLResponse:
    return _page(
        "QQ 替身",
        "Pretend graph.qq.com",
        f"""<p>请从网站的 QQ 按钮开始。 <span lang="en">Start from the QQ button of your site.</span></p>
<p><a href="/_standin/phone">试试手机应用和小程序</a> <span lang="en">Try a phone app and a mini program</span></p>
<h2>应用 <span lang="en">Applications</span></h2>
<ul>
<li>网站 <span lang="en">web</span> <code>{escape(client_id)}</code></li>
<li>手机应用 <span lang="en">phone app</span> <code>{APP_ID}</code></li>
<li>小程序 <span lang="en">mini program</span> <code>{MINI_APP_ID}</code></li>
</ul>
<h2>已登记的回调地址 <span lang="en">Registered callbacks</span></h2>
{_format_list(callbacks)}
<h2>收到的请求 <span lang="en">Recorded requests</span></h2>
<p><a href="/_standin/requests"><code>/_standin/requests</code></a></p>""",
    )


def phone(people: Iterable[str]) -> HTMLResponse:
    """Show the form that plays a login on a phone."""
    options = "\n".join(f"<option>{escape(person)}</option>" for person in people)
    return _page(
        "手机登录",
        "Login on a phone",
        f"""<p>这一页扮演手机应用和小程序：QQ 把令牌或 code 交给它们，它们再交给商城的服务器。
<span lang="en">This page plays a phone app and a mini program: QQ gives them a token or a code, which they send to the
shop's server.</span></p>
<form method="post" action="/_standin/phone">
<h2><label for="person">选一个人 <span lang="en">Choose a person</span></label></h2>
<select id="person" name="person">
{options}
</select>
<h2><label for="other">或者任何人 <span lang="en">Or anyone else</span></label></h2>
<input type="text" id="other" name="other" autocomplete="off" placeholder="名字">
<h2>登录 <span lang="en">Log in</span></h2>
<button name="login" value="token">手机应用，取得 access_token
<span lang="en">Phone app, gets an access token</span></button>
<button name="login" value="code">手机应用，取得 code（loginServerSide）
<span lang="en">Phone app, gets a code</span></button>
<button name="login" value="mini">小程序，取得 code <span lang="en">Mini program, gets a code</span></button>
</form>""",
    )


def phone_login(person: str, given: Mapping[str, object], url: str, body: Mapping[str, str]) -> HTMLResponse:
    """Show what QQ gave the app, and the call with which the app's user logs in to the shop."""
    rows = (f"<li><code>{escape(name)}</code> <code>{escape(str(value))}</code></li>" for name, value in given.items())
    curl = f"curl {shlex.quote(url)} -H 'Content-Type: application/json' -d {shlex.quote(json.dumps(body))}"
    return _page(
        "手机登录",
        "Login on a phone",
        f"""<p>{escape(person)} 已登录。 <span lang="en">Logged in.</span></p>
<h2>QQ 交给应用的 <span lang="en">What QQ gave the app</span></h2>
<ul>{"".join(rows)}</ul>
<h2>应用发给商城的 <span lang="en">What the app sends to the shop</span></h2>
<pre><code>{escape(curl)}</code></pre>
<p>请在终端里运行：网页发出的请求带 Origin，商城会拒绝。
<span lang="en">Run it in a terminal: a request from a page has an Origin, and the shop refuses it.</span></p>
<p><code>key</code> 是应用为这次登录生成的随机数。商城要求填表时，提交表单要带上同一个 <code>key</code>。
<span lang="en">The app makes the key for this login. If the shop wants its form, send this key with it.</span></p>
<p><a href="/_standin/phone">再来一次</a> <span lang="en">Once more</span></p>""",
    )
