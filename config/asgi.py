"""The ASGI application: `daphne config.asgi:application`."""

import os
import sys
from typing import cast

import django
from django.core.exceptions import ImproperlyConfigured

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")

try:
    django.setup(set_prefix=False)
except ImproperlyConfigured as error:
    sys.exit(f"config: {error}")

from django.conf import settings
from django.core.asgi import get_asgi_application

from config.loopback import Application, LoopbackOnly
from realtime.conf import BadSetting
from realtime.routing import behind_proxies, realtime_application

try:
    application: Application = realtime_application(behind_proxies(cast(Application, get_asgi_application())))
except BadSetting as error:
    sys.exit(f"config: REALTIME_{error.name} {error.problem}")

if settings.DEBUG:
    application = LoopbackOnly(application)
