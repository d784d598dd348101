from django.contrib.auth import user_logged_in
from django.http import HttpResponse
from django.utils.translation import gettext_lazy as _
from rest_framework.exceptions import ValidationError
from rest_framework.response import Response
from rest_framework.views import APIView

from . import image_codes, sms
from .errors import ServiceUnavailable
from .models import User
from .serializers import (
    LoginSerializer,
    MobileSerializer,
    ProfileSerializer,
    RegistrationSerializer,
    SMSRequestSerializer,
    UsernameSerializer,
)
from .tokens import login_payload


class PrivateView(APIView):
    """A view whose answers, errors included, are kept by no browser and no proxy."""

    def finalize_response(self, request, response, *args, **kwargs):
        response = super().finalize_response(request, response, *args, **kwargs)
        response["Cache-Control"] = "no-store"
        return response


class OpenView(PrivateView):
    """For anybody. It reads no token, so that one that has ended does not get in the way of a new login."""

    authentication_classes = permission_classes = ()

    def read(self, serializer_class, data):
        serializer = serializer_class(data=data, context={"request": self.request})
        serializer.is_valid(raise_exception=True)
        return serializer


class LoginView(OpenView):
    def post(self, request):
        user = self.read(LoginSerializer, request.data).validated_data["user"]
        user_logged_in.send(sender=User, request=request, user=user)
        return Response(login_payload(user, request))


class RegistrationView(OpenView):
    def post(self, request):
        user = self.read(RegistrationSerializer, request.data).save()
        token = login_payload(user, request)["token"]
        return Response({"id": user.pk, "username": user.username, "mobile": user.mobile, "token": token}, status=201)


class ProfileView(PrivateView):
    def get(self, request):
        return Response(ProfileSerializer(request.user).data)


class UsernameCountView(OpenView):
    def get(self, request, username):
        self.read(UsernameSerializer, {"username": username})
        return Response({"username": username, "count": User.objects.filter(username=username).count()})


class MobileCountView(OpenView):
    def get(self, request, mobile):
        self.read(MobileSerializer, {"mobile": mobile})
        return Response({"mobile": mobile, "count": User.objects.filter(mobile=mobile).count()})


class ImageCodeView(OpenView):
    def get(self, request, image_code_id):
        return HttpResponse(image_codes.draw(image_code_id), content_type="image/png")


class SMSCodeView(OpenView):
    def get(self, request, mobile):
        asked = self.read(SMSRequestSerializer, {**request.query_params.dict(), "mobile": mobile}).validated_data
        if not image_codes.check(asked["image_code_id"], asked["text"]):
            raise ValidationError({"text": [_("图形验证码错误或已过期")]})
        try:
            sent = sms.send_code(mobile)
        except sms.SMSError as exc:
            raise ServiceUnavailable(_("短信发送失败，请稍后再试")) from exc
        if not sent:
            raise ValidationError({"mobile": [_("获取短信验证码过于频繁，请一分钟后再试")]})
        return Response({"message": "OK"})
