#!/bin/bash
# djangorestframework-simplejwt 5.5.1 and drf-spectacular 0.30.0 with Django 5.2.19 and Django REST framework 3.18.3:
# what else a server imports with them.
#
# Both import a signal from django.test, not from django.core.signals as REST framework does. So each worker in
# production imports Django's test client, its test cases and unittest: 40 modules, 2 MB. That is not so of drf-jwt,
# django-rest-knox, social-auth-app-django and django-filter.
#
# Seen (a module, and whether the process has Django's test tools and unittest once it is imported):
#   rest_framework.views: no
#   rest_framework_simplejwt.tokens: yes
#   rest_framework_jwt.authentication: no
#   knox.auth: no
#   drf_spectacular.views: yes
#   social_django.strategy: no
#   django_filters.rest_framework: no
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
    Django==5.2.19 djangorestframework==3.18.3 djangorestframework-simplejwt==5.5.1 drf-jwt==1.19.2 \
    django-rest-knox==5.1.0 drf-spectacular==0.30.0 social-auth-app-django==8.0.0 django-filter==26.2

cat > "$folder/try.py" <<'PYTHON'
import sys
from importlib import import_module

import django
from django.conf import settings

(module,) = sys.argv[1:]
apps = ["django.contrib.contenttypes", "django.contrib.auth", "rest_framework", module.partition(".")[0]]
settings.configure(SECRET_KEY="not a secret", INSTALLED_APPS=list(dict.fromkeys(apps)))
django.setup()
import_module(module)
has_tools = {"django.test", "unittest"} <= sys.modules.keys()
print(f"{module}: {'yes' if has_tools else 'no'}")
PYTHON

modules="rest_framework.views rest_framework_simplejwt.tokens rest_framework_jwt.authentication knox.auth
    drf_spectacular.views social_django.strategy django_filters.rest_framework"
seen=$(for module in $modules; do "$folder/venv/bin/python" "$folder/try.py" "$module"; done)
echo "$seen"
diff <(sed -n 's/^#   //p' "$0") <(echo "$seen")
