"""An openid is compared letter by letter, also after a later migration has altered its column."""

import pytest
from django.db import connection, models
from django.test.utils import isolate_apps

from apps.oauth.fields import ExactCharField

CHANGES = [
    {"max_length": 100},
    {"null": True},
    {"db_comment": "of QQ"},
    {"max_length": 100, "null": True, "default": ""},
]


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("change", [None, *CHANGES])
@isolate_apps("tests.oauth")
def test_altered_column_still_distinguishes_case(change):
    class Binding(models.Model):
        openid = ExactCharField(max_length=64, unique=True)

        class Meta:
            app_label = "exact"

    with connection.schema_editor() as editor:
        editor.create_model(Binding)
    try:
        if change:
            field = ExactCharField(**{"max_length": 64, "unique": True, **change})
            field.set_attributes_from_name("openid")
            field.model = Binding
            with connection.schema_editor() as editor:
                editor.alter_field(Binding, Binding._meta.get_field("openid"), field)
        Binding.objects.bulk_create([Binding(openid="a"), Binding(openid="A")])
        assert Binding.objects.filter(openid="A").count() == 1
    finally:
        with connection.schema_editor() as editor:
            editor.delete_model(Binding)
