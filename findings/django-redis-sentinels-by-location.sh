#!/bin/bash
# django-redis 7.0.0 with redis-py 8.1.0: two caches with one LOCATION and different SENTINELS.
#
# Several groups of Sentinels may watch a service of the same name, such as "mymaster", and LOCATION holds nothing but
# this name. django-redis keeps its connection pools by LOCATION alone, so the second cache silently uses the pool, and
# with it the Sentinels, of the first one used. Which one that is depends on the order of use.
# Expected: each cache asks the Sentinels in its own OPTIONS.
#
# Seen (ports of the Sentinels that a cache asks; its own are 7001 and 7002):
#   sessions first: sessions asks 7001, orders asks 7001
#   orders first: sessions asks 7002, orders asks 7002
#   orders first, with a needless port: sessions asks 7001, orders asks 7002
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check Django==5.2.19 django-redis==7.0.0 redis==8.1.0

cat > "$folder/try.py" <<'PYTHON'
import sys

from django.conf import settings
from django.core.cache import caches


def make(location, port):
    options = {
        "CONNECTION_FACTORY": "django_redis.pool.SentinelConnectionFactory",
        "CLIENT_CLASS": "django_redis.client.SentinelClient",
        "SENTINELS": [("127.0.0.1", port)],
    }
    return {"BACKEND": "django_redis.cache.RedisCache", "LOCATION": location, "OPTIONS": options}


def ask(name):
    pool = caches[name].client.get_client(write=True).connection_pool
    return pool.sentinel_manager.sentinels[0].connection_pool.connection_kwargs["port"]


first, location = sys.argv[1:]
settings.configure(CACHES={"default": make("redis://mymaster/0", 7001), "orders": make(location, 7002)})
names = {"sessions": "default", "orders": "orders"}
ask(names[first])
print(", ".join(f"{name} asks {ask(alias)}" for name, alias in names.items()))
PYTHON

try() { "$folder/venv/bin/python" "$folder/try.py" "$@"; }
seen=$(
    echo "sessions first: $(try sessions redis://mymaster/0)"
    echo "orders first: $(try orders redis://mymaster/0)"
    echo "orders first, with a needless port: $(try orders 'redis://mymaster:1/0')"
)
echo "$seen"
diff <(sed -n 's/^#   //p' "$0") <(echo "$seen")
