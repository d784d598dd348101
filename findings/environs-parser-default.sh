#!/bin/bash
# environs 15.2.0: a parser of your own also parses the default. Most built-in ones, such as int and json, do not.
#
# If the variable is missing, env.int("PORT", default=None) returns None as it is. A parser made with parser_for() or
# add_parser() gets the default as if it was the text of the variable: it raises at None, and changes a value that has
# its final form. The README does not say so. With add_parser_from_field() it returns the default untouched.
#
# Seen (no variable is set):
#   int, default None: None
#   upper, default None: AttributeError: 'NoneType' object has no attribute 'upper'
#   json, default '[]': '[]'
#   percent, default 0.5: 0.005
#   percent as a field, default 0.5: 0.5
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check environs==15.2.0 marshmallow==4.4.0

cat > "$folder/try.py" <<'PYTHON'
from environs import Env
from marshmallow import fields

env = Env()


@env.parser_for("upper")
def parse_upper(text):
    return text.upper()


@env.parser_for("percent")
def parse_percent(text):
    return float(text) / 100


class Percent(fields.Field):
    def _deserialize(self, value, *args, **kwargs):
        return float(value) / 100


env.add_parser_from_field("percent_field", Percent)
print("int, default None:", env.int("SHOP_PORT", default=None))
try:
    print("upper, default None:", env.upper("SHOP_COUNTRY", default=None))
except AttributeError as error:
    print(f"upper, default None: {type(error).__name__}: {error}")
print("json, default '[]':", repr(env.json("SHOP_HOSTS", default="[]")))
print("percent, default 0.5:", env.percent("SHOP_DISCOUNT", default=0.5))
print("percent as a field, default 0.5:", env.percent_field("SHOP_DISCOUNT", default=0.5))
PYTHON

seen=$("$folder/venv/bin/python" "$folder/try.py")
echo "$seen"
diff <(sed -n 's/^#   //p' "$0") <(echo "$seen")
