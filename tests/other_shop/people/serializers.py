from rest_framework import serializers
from rest_framework.authtoken.models import Token

from .models import Person


class PersonSerializer(serializers.Serializer):
    """This shop knows people by e-mail; a person of that address must know its password."""

    email = serializers.EmailField()
    password = serializers.CharField(trim_whitespace=False)

    def validate(self, attrs):
        person = Person.objects.filter(email=attrs["email"]).first()
        if person and not person.check_password(attrs["password"]):
            raise serializers.ValidationError({"password": ["Wrong password."]})
        return attrs

    def create(self, validated_data):
        person, is_new = Person.objects.get_or_create(email=validated_data["email"])
        if is_new:
            person.set_password(validated_data["password"])
            person.save()
        return person


def token_payload(user, request):
    token, _ = Token.objects.get_or_create(user=user)
    return {"token": token.key, "user_id": user.pk, "username": user.email}
