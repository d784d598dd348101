from rest_framework.generics import RetrieveAPIView
from rest_framework.permissions import IsAuthenticated
from rest_framework.serializers import ModelSerializer

from .models import User


class UserDetailSerializer(ModelSerializer):
    class Meta:
        model = User
        fields = ("id", "username", "mobile", "email", "email_active")


class UserDetailView(RetrieveAPIView):
    serializer_class = UserDetailSerializer
    permission_classes = [IsAuthenticated]

    def get_object(self):
        return self.request.user
