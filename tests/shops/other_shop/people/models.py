from django.contrib.auth.base_user import AbstractBaseUser, BaseUserManager
from django.db import models


class Person(AbstractBaseUser):
    email = models.EmailField(unique=True)

    USERNAME_FIELD = "email"

    @property
    def is_active(self):
        return not self.email.endswith("@banned.example")

    objects = BaseUserManager()
