from django.conf import settings
from django.contrib.auth import user_logged_in
from django.http import HttpResponse
from django.utils.translation import gettext_lazy as _
from rest_framework.exceptions import PermissionDenied, ValidationError
from rest_framework.response import Response
from rest_framework.settings import api_settings
from rest_framework.views import APIView

from . import image_codes, sms
from .audit import audit
from .errors import ServiceUnavailable
from .limits import COUNT, IMAGE_CODE, IMAGE_CODE_TRIED, LOGIN, LimitReached, hit
from .mobiles import is_mobile, mask_mobile
from .models import User
from .serializers import (
    LoginSerializer,
    MobileSerializer,
    PasswordChangeSerializer,
    PasswordResetSerializer,
    ProfileSerializer,
    RegistrationSerializer,
    SMSRequestSerializer,
    UsernameSerializer,
)
from .tokens import login_payload


class PrivateView(APIView):
    """A view whose answers, errors included, are kept by no browser and no proxy."""

    event = None  # what the audit calls its calls; without a name they are not recorded
    named = ""  # the number the form names, masked

    def initial(self, request, *args, **kwargs):
        """Refuse what a browser calls for a page of another site: it could use up what its visitor's address may do."""
        is_foreign = request.headers.get("Sec-Fetch-Site") == "cross-site"
        if is_foreign and request.headers.get("Origin") not in settings.CORS_ALLOWED_ORIGINS:
            raise PermissionDenied(_("请从本店的页面登录。"))
        super().initial(request, *args, **kwargs)

    def read(self, serializer_class, data):
        """Return a serializer of data that is valid."""
        if isinstance(data, dict):
            texts = [text for text in (data.get("mobile"), data.get("username")) if isinstance(text, str)]
            self.named = next((mask_mobile(text) for text in texts if is_mobile(text)), "")
        serializer = serializer_class(data=data, context={"request": self.request})
        serializer.is_valid(raise_exception=True)
        return serializer

    def record_done(self, user=None):
        audit(self.request, self.event, "ok", mobile=self.named, user_id=user and user.pk)

    def handle_exception(self, exc):
        if self.event and isinstance(exc, (ValidationError, LimitReached, ServiceUnavailable)):
            reason = exc.default_code
            if isinstance(exc, ValidationError) and isinstance(exc.detail, dict):
                reason = next(iter(exc.detail))
                if reason == api_settings.NON_FIELD_ERRORS_KEY:
                    reason = "credentials"
            audit(self.request, self.event, "refused", reason=reason, mobile=self.named, user_id=self.request.user.pk)
        return super().handle_exception(exc)

    def finalize_response(self, request, response, *args, **kwargs):
        response = super().finalize_response(request, response, *args, **kwargs)
        response["Cache-Control"] = "no-store"
        return response


class OpenView(PrivateView):
    """For anybody. It reads no token, so that one that has ended does not get in the way of a new login."""

    authentication_classes = permission_classes = ()


class LoginView(OpenView):
    event = "password_login"

    def post(self, request):
        form = request.data  # what is no form is refused before it counts: any page can have its visitors send that
        hit(request, LOGIN)
        user = self.read(LoginSerializer, form).validated_data["user"]
        user_logged_in.send(sender=User, request=request, user=user)
        self.record_done(user)
        return Response(login_payload(user, request))


class RegistrationView(OpenView):
    event = "registration"

    def post(self, request):
        form = request.data
        hit(request, COUNT)  # the answer tells whether the name is taken
        user = self.read(RegistrationSerializer, form).save()
        self.record_done(user)
        token, mobile = login_payload(user, request)["token"], mask_mobile(user.mobile)
        return Response({"id": user.pk, "username": user.username, "mobile": mobile, "token": token}, status=201)


class PasswordResetView(OpenView):
    event = "password_reset"

    def post(self, request):
        user = self.read(PasswordResetSerializer, request.data).save()
        user_logged_in.send(sender=User, request=request, user=user)
        self.record_done(user)
        return Response(login_payload(user, request))


class PasswordChangeView(PrivateView):
    event = "password_change"

    def put(self, request):
        user = self.read(PasswordChangeSerializer, request.data).save()
        self.record_done(user)
        return Response(login_payload(user, request))


class ProfileView(PrivateView):
    def get(self, request):
        return Response(ProfileSerializer(request.user).data)


class UsernameCountView(OpenView):
    def get(self, request, username):
        hit(request, COUNT)
        self.read(UsernameSerializer, {"username": username})
        return Response({"username": username, "count": User.objects.filter(username=username).count()})


class MobileCountView(OpenView):
    def get(self, request, mobile):
        hit(request, COUNT)
        self.read(MobileSerializer, {"mobile": mobile})
        return Response({"mobile": mobile, "count": User.objects.filter(mobile=mobile).count()})


class ImageCodeView(OpenView):
    def get(self, request, image_code_id):
        hit(request, IMAGE_CODE)
        return HttpResponse(image_codes.draw(image_code_id), content_type="image/png")


class SMSCodeView(OpenView):
    event = "sms"

    def get(self, request, mobile):
        hit(request, IMAGE_CODE_TRIED)
        asked = self.read(SMSRequestSerializer, {**request.query_params.dict(), "mobile": mobile}).validated_data
        # Before the limits of SMS are counted: who has not read an image uses up nothing of what a number has left.
        if not image_codes.check(asked["image_code_id"], asked["text"]):
            raise ValidationError({"text": [_("图形验证码错误或已过期。")]})
        try:
            sms.send_code(request, mobile)
        except sms.SMSError as exc:
            raise ServiceUnavailable(_("短信发送失败，请稍后再试。")) from exc
        self.record_done()
        return Response({"message": "OK"})
