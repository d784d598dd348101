#!/bin/bash
# drf-spectacular 0.30.0 with Django REST framework 3.18.3: `pattern` in the schema of fields with Django's
# RegexValidator.
#
# It is the validator's expression and nothing else, so it can say the opposite of the validator. inverse_match=True
# ("must not look like this") becomes "must look like this". A flag such as IGNORECASE is dropped, and so is a second
# validator. There is no warning. A client made from the schema then refuses good values and sends bad ones.
#
# Seen (is the value valid for the validators; for the pattern of the schema):
#   username_not_a_number='alice': serializer True, schema False
#   username_not_a_number='12345': serializer False, schema True
#   coupon_ignoring_case='SALE': serializer True, schema False
#   password_of_two_kinds='letters': serializer False, schema True
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
    Django==5.2.19 djangorestframework==3.18.3 drf-spectacular==0.30.0

cat > "$folder/try.py" <<'PYTHON'
import re

import django
from django.conf import settings
from django.core.validators import RegexValidator as Regex

schema_class = {"DEFAULT_SCHEMA_CLASS": "drf_spectacular.openapi.AutoSchema"}
settings.configure(REST_FRAMEWORK=schema_class, INSTALLED_APPS=["rest_framework", "drf_spectacular"])
django.setup()
from django.urls import path
from drf_spectacular.generators import SchemaGenerator
from rest_framework import generics, serializers


class FormSerializer(serializers.Serializer):
    username_not_a_number = serializers.CharField(validators=[Regex(r"^[0-9]+$", inverse_match=True)])
    coupon_ignoring_case = serializers.CharField(validators=[Regex(r"^[a-z]+$", flags=re.IGNORECASE)])
    password_of_two_kinds = serializers.CharField(validators=[Regex("[a-z]"), Regex("[0-9]")])


class View(generics.CreateAPIView):
    serializer_class = FormSerializer
    authentication_classes = permission_classes = ()


schema = SchemaGenerator(patterns=[path("form/", View.as_view())]).get_schema(public=True)
properties = schema["components"]["schemas"]["Form"]["properties"]
tries = ("username_not_a_number", "alice"), ("username_not_a_number", "12345")
for name, value in *tries, ("coupon_ignoring_case", "SALE"), ("password_of_two_kinds", "letters"):
    form = FormSerializer(data={name: value}, partial=True)
    matches = bool(re.search(properties[name]["pattern"], value))
    print(f"{name}={value!r}: serializer {form.is_valid()}, schema {matches}")
PYTHON

seen=$("$folder/venv/bin/python" "$folder/try.py")
echo "$seen"
diff <(sed -n 's/^#   //p' "$0") <(echo "$seen")
