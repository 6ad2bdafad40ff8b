"""The demo page's one address."""

from django.urls import path

from demo import views

app_name = "demo"

urlpatterns = [path("", views.index, name="index")]
