"""Django's settings. docs/settings.md explains the variables; config/env.py reads them."""

from pathlib import Path
from typing import Any, get_type_hints

from django.core.exceptions import ImproperlyConfigured

from config import env
from realtime import conf

BASE_DIR = Path(__file__).resolve().parent.parent

# --- What kind of installation this is ---

DEBUG = env.flag("DJANGO_DEBUG", default=True)
DEMO = env.flag("DEMO", default=DEBUG)

if DEBUG:
    SECRET_KEY = env.secret("DJANGO_SECRET_KEY", "insecure-development-key-for-loopback-only-0123456789")
    ALLOWED_HOSTS = env.words("DJANGO_ALLOWED_HOSTS", ["localhost", ".localhost", "127.0.0.1", "[::1]"])
else:
    _why = "DJANGO_DEBUG=0"
    env.required("DJANGO_ALLOWED_HOSTS", when=_why, example="chat.example.com")
    ALLOWED_HOSTS = env.words("DJANGO_ALLOWED_HOSTS")
    SECRET_KEY = env.required("DJANGO_SECRET_KEY", when=_why, example='"$(openssl rand -base64 48)"', is_secret=True)

# --- Applications ---

INSTALLED_APPS = [
    "daphne",  # first: it brings the ASGI runserver
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "channels",
    "django_prometheus",
    "realtime",
    "monitoring",
    *(["demo"] if DEMO else []),
]

MIDDLEWARE = [
    "config.headers.page_headers",
    "django_prometheus.middleware.PrometheusBeforeMiddleware",
    "django.middleware.security.SecurityMiddleware",
    "config.static.StaticFilesMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "realtime.revocation.RevocationMiddleware",  # after the sessions: it tells nodes which of them have ended
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "django_prometheus.middleware.PrometheusAfterMiddleware",
]

ROOT_URLCONF = "config.urls"
ASGI_APPLICATION = "config.asgi.application"

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "config" / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    },
]

# --- Database ---

DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

_database = env.database("DATABASE_URL", default=f"sqlite:///{BASE_DIR / 'db.sqlite3'}")
_options: dict[str, Any] = _database.setdefault("OPTIONS", {})
if _database["ENGINE"] == env.SQLITE:
    # WAL lets the nodes read while one writes. IMMEDIATE takes the write lock when a transaction begins,
    # where waiting for it works; a transaction that reads first and writes later would fail at once
    # instead.
    _options["transaction_mode"] = "IMMEDIATE"
    _options["timeout"] = 10  # seconds that a connection waits for the write lock (busy_timeout)
    _options["init_command"] = "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL"
else:
    # A pool and no CONN_MAX_AGE: under ASGI a kept connection would belong to a thread that may not come
    # back.
    _options["pool"] = {"min_size": 1, "max_size": env.integer("DATABASE_POOL_MAX", 8), "timeout": 5}

# The same engine, with its queries and errors counted.
DATABASES = {"default": {**_database, "ENGINE": env.COUNTED[_database["ENGINE"]]}}

# --- Backplane and the realtime application ---

CHANNEL_LAYERS = env.channel_layers(
    "BACKPLANE_URL",
    default="redis://127.0.0.1:6379/0",
    prefix=env.text("BACKPLANE_PREFIX", "asgi"),
    encryption_keys=env.keys("BACKPLANE_KEYS"),
)

_variables = {"NODE_NAME": "NODE_NAME", "NODE_ADDRESS": "NODE_ADDRESS"}
_kinds = {name.upper(): kind for name, kind in get_type_hints(conf.Settings).items()}
REALTIME = {
    "DEFAULTS": conf.DEVELOPMENT if DEBUG else conf.PRODUCTION,
    **env.settings_by_type(_kinds, prefix="REALTIME_", renamed=_variables, secrets=conf.secret_names()),
}
try:
    conf.load(REALTIME)
except conf.BadSetting as error:
    _variable = _variables.get(error.name, f"REALTIME_{error.name}")
    raise ImproperlyConfigured(f"{_variable} {error.problem}") from None

# --- Static files: served by every node, collected or not; nginx serves them first where they are collected
# ---

STATIC_URL = "/static/"
STATIC_ROOT = Path(env.text("STATIC_ROOT", str(BASE_DIR / "staticfiles")))
WHITENOISE_USE_FINDERS = True
WHITENOISE_MAX_AGE = 0 if DEBUG else 3600

# --- Language and time ---

LANGUAGE_CODE = "en-gb"
TIME_ZONE = "UTC"
USE_I18N = False
USE_TZ = True

# --- Security ---

AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}"}
    for name in ("UserAttributeSimilarityValidator", "MinimumLengthValidator", "CommonPasswordValidator")
]
SECURE_CONTENT_TYPE_NOSNIFF = True
SECURE_REFERRER_POLICY = "same-origin"
SECURE_CROSS_ORIGIN_OPENER_POLICY = "same-origin"
X_FRAME_OPTIONS = "DENY"
SESSION_COOKIE_HTTPONLY = True
SESSION_COOKIE_SAMESITE = "Lax"
CSRF_COOKIE_SAMESITE = "Lax"
CSRF_TRUSTED_ORIGINS = env.words("DJANGO_CSRF_TRUSTED_ORIGINS")

DEFAULT_EXCEPTION_REPORTER_FILTER = "config.reports.ReporterFilter"

# Cookies of a site that strangers reach never travel in the open, whoever forgot to say that there is TLS.
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = env.flag("DJANGO_SECURE_COOKIES", default=not DEBUG)

# TLS ends at the balancer. Whether a request came over it, Django is told by config/asgi.py, which believes
# X-Forwarded-Proto from TRUSTED_PROXIES alone; SECURE_PROXY_SSL_HEADER would believe everybody.
BEHIND_TLS = env.flag("DJANGO_BEHIND_TLS", default=False)
SECURE_HSTS_SECONDS = env.integer("DJANGO_HSTS_SECONDS", 86_400 if BEHIND_TLS else 0)
if SECURE_HSTS_SECONDS and not BEHIND_TLS:
    raise ImproperlyConfigured("DJANGO_HSTS_SECONDS means nothing without DJANGO_BEHIND_TLS=1")
SECURE_SSL_REDIRECT = BEHIND_TLS
# The operators' side of the balancer, its checks and Prometheus come without TLS; the public side has none of these.
SECURE_REDIRECT_EXEMPT = [r"^(admin|health|metrics)(/|$)", r"^static/"]
# Whether all subdomains have TLS, and for ever, is for the owner of the domain to say, not for one application on it.
SILENCED_SYSTEM_CHECKS = ["security.W005", "security.W021"]

# --- Logs: one line each, to stderr ---

LOG_LEVEL = env.choice("LOG_LEVEL", "INFO", ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"))
_format = env.choice("LOG_FORMAT", "TEXT", ("TEXT", "JSON"))
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {
        "line": {"()": {"TEXT": "realtime.logs.TextFormatter", "JSON": "realtime.logs.JsonFormatter"}[_format]}
    },
    "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "line"}},
    "root": {"handlers": ["stderr"], "level": LOG_LEVEL},
    "loggers": {
        "django": {"handlers": [], "level": LOG_LEVEL, "propagate": True},
        "django.server": {"handlers": [], "level": LOG_LEVEL, "propagate": True},
        # Their DEBUG lines are one for each event of the loop or the database.
        "asyncio": {"level": "INFO"},
        "django.db.backends": {"level": "INFO"},
    },
}
