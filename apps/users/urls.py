from django.urls import path

from . import views

urlpatterns = [
    path("authorizations/", views.LoginView.as_view()),
    path("users/", views.RegistrationView.as_view()),
    path("user/", views.ProfileView.as_view()),
    path("user/password/", views.PasswordChangeView.as_view()),
    path("password/", views.PasswordResetView.as_view()),
    path("usernames/<str:username>/count/", views.UsernameCountView.as_view()),
    path("mobiles/<str:mobile>/count/", views.MobileCountView.as_view()),
    path("image_codes/<uuid:image_code_id>/", views.ImageCodeView.as_view()),
    path("sms_codes/<str:mobile>/", views.SMSCodeView.as_view()),
]
