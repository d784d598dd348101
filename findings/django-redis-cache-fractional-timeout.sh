#!/bin/bash
# Django 5.2.19, RedisCache with redis-py 8.1.0: a timeout of less than a second is rounded down to 0, which means
# "do not store". add() still returns True each time, so every caller gets a short lock. LocMemCache and django-redis
# 7.0.0 keep the fraction, so tests with local memory do not show it.
#
# Seen:
#   RedisCache: add True, add again True, get None
#   LocMemCache: add True, add again False, get 1
#   django-redis: add True, add again False, get 1
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check Django==5.2.19 redis==8.1.0 django-redis==7.0.0

# In Debian's redis-tools the server is named redis-check-rdb; it acts as the program by whose name it is called.
redis=$(command -v redis-server || command -v redis-check-rdb)
(exec -a redis-server "$redis" --port 0 --unixsocket "$folder/redis.sock" --save "" --dir "$folder" > "$folder/log") &
server=$!
trap 'kill "$server"; wait "$server" || true; rm -rf "$folder"' EXIT
for _ in {1..100}; do [[ -S $folder/redis.sock ]] && break; sleep 0.1; done

cat > "$folder/try.py" <<'PYTHON'
import sys

from django.conf import settings
from django.core.cache import caches

url = f"unix://{sys.argv[1]}/redis.sock"
settings.configure(
    CACHES={
        "RedisCache": {"BACKEND": "django.core.cache.backends.redis.RedisCache", "LOCATION": url},
        "LocMemCache": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"},
        "django-redis": {"BACKEND": "django_redis.cache.RedisCache", "LOCATION": url, "KEY_PREFIX": "other"},
    }
)
for name in settings.CACHES:
    first, again = (caches[name].add("lock", 1, timeout=0.9) for _ in range(2))
    print(f"{name}: add {first}, add again {again}, get {caches[name].get('lock')}")
PYTHON

seen=$("$folder/venv/bin/python" "$folder/try.py" "$folder")
echo "$seen"
diff <(sed -n 's/^#   //p' "$0") <(echo "$seen")
