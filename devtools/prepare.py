"""The database of a development cluster: migrated, with an admin. `python -m devtools.prepare PASSWORD_FILE`.

Prints one line about the login. The password is made once, random, and kept in the file for later starts.
"""

from __future__ import annotations

import os
import secrets
import sys
from pathlib import Path

import django
from django.core.exceptions import ImproperlyConfigured
from django.core.management import call_command
from django.db import DatabaseError

ADMIN = "admin"


def prepare(password_file: Path) -> str:
    """Migrate, create the admin if there is none, and say how to log in."""
    from django.contrib.auth import get_user_model

    call_command("migrate", verbosity=0, interactive=False)
    user, is_new = get_user_model().objects.get_or_create(
        username=ADMIN, defaults={"is_staff": True, "is_superuser": True, "email": "admin@localhost"}
    )
    if is_new:
        password = secrets.token_urlsafe(9)
        _write_private(password_file, password)
        user.set_password(password)
        user.save()
    known = password_file.read_text().strip() if password_file.exists() else ""
    if known and user.check_password(known):
        return f"user {ADMIN}, password {known}"
    return f"user {ADMIN}, password as set before (manage.py changepassword {ADMIN} changes it)"


def _write_private(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text + "\n")


def main() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
    try:
        django.setup()
        print(prepare(Path(sys.argv[1])))
    except ImproperlyConfigured as error:
        sys.exit(str(error))
    except (DatabaseError, OSError) as error:
        sys.exit(f"the database cannot be prepared (DATABASE_URL): {error}")


if __name__ == "__main__":
    main()
