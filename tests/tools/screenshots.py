"""Takes the pictures in web/screenshots: `python -m tests.tools.screenshots`.

Each sheet shows the states of the pages side by side, on a phone or a desktop, in one language.
"""

import io
import secrets
import tempfile
from pathlib import Path

from PIL import Image, ImageDraw
from playwright.sync_api import sync_playwright

from tests.e2e.browsers import OPTIONS, BrowserUser, open_shop
from tests.e2e.states import visit_states
from tests.tools.processes import ROOT, find

FOLDER = ROOT / "web/screenshots"
SIZES = {"phone": (360, 640), "desktop": (1280, 800)}
COLUMNS = {"phone": 8, "desktop": 6}
SCALES = {"phone": 2, "desktop": 3}  # a sheet shows the pictures so many times smaller
LANGUAGES = {"zh": "zh-CN", "en": "en"}
SINGLE = {"login": "desktop", "bind": "phone"}  # the README's


def take(chromium, size, language, folder):
    """Return [(name, picture)] of all states; write the README's pictures."""
    width, height = SIZES[size]
    with open_shop(folder, QQ_PROFILE="True") as place:
        context = chromium.new_context(locale=LANGUAGES[language], viewport={"width": width, "height": height})
        person = f"小企鹅 {secrets.token_hex(2)}" if language == "zh" else f"Penguin {secrets.token_hex(2)}"
        return [
            (name, Image.open(io.BytesIO(page.screenshot())).convert("RGB"))
            for name, page in visit_states(BrowserUser(place, context, person))
        ]


def make_sheet(pictures, size):
    width, height = (side // SCALES[size] for side in SIZES[size])
    rows = -(-len(pictures) // COLUMNS[size])
    sheet = Image.new("RGB", (COLUMNS[size] * (width + 8), rows * (height + 24)), "#888")
    for place, (name, picture) in enumerate(pictures):
        left, top = place % COLUMNS[size] * (width + 8), place // COLUMNS[size] * (height + 24)
        sheet.paste(picture.resize((width, height), Image.Resampling.LANCZOS), (left, top + 20))
        ImageDraw.Draw(sheet).text((left, top + 4), name, "#fff")
    return sheet


def save(picture, name):
    picture.quantize(64).save(FOLDER / f"{name}.png", optimize=True)


def main():
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=find("chromium"), args=OPTIONS)
        for size in SIZES:
            for language in LANGUAGES:
                with tempfile.TemporaryDirectory() as folder:
                    pictures = take(chromium, size, language, Path(folder))
                save(make_sheet(pictures, size), f"{size}.{language}")
                for name, picture in pictures:
                    if language == "zh" and SINGLE.get(name) == size:
                        save(picture, name)


if __name__ == "__main__":
    main()
