from django.core.cache import cache
from rest_framework import serializers

from .models import Person


class PersonSerializer(serializers.Serializer):
    """Identifies people by e-mail address: the mailed code proves that they own it."""

    email = serializers.EmailField()
    email_code = serializers.CharField()

    def validate(self, attrs):
        key = f"email_code_{attrs['email']}"
        if cache.get(key) != attrs["email_code"] or not cache.delete(key):  # only one of two calls at once deletes it
            raise serializers.ValidationError({"email_code": ["Wrong code."]})
        return attrs

    def save(self):
        person, is_new = Person.objects.get_or_create(email=self.validated_data["email"])
        if is_new:
            person.set_unusable_password()
            person.save()
        return person
