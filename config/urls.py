"""Where HTTP requests go. WebSockets are routed in config/asgi.py."""

from django.apps import apps
from django.contrib import admin
from django.urls import URLPattern, URLResolver, include, path

urlpatterns: list[URLPattern | URLResolver] = [
    path("admin/", admin.site.urls),
    path("", include("monitoring.urls")),
]

if apps.is_installed("demo"):
    urlpatterns.append(path("", include("demo.urls")))
