# ruff: noqa: RUF012
from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [
        ("realtime", "0003_admin_permissions"),
    ]

    operations = [
        migrations.AlterModelOptions(
            name="connection",
            options={
                "default_permissions": ("view",),
                "permissions": (
                    ("disconnect_connection", "Can disconnect connections"),
                    ("message_connection", "Can send messages to connections"),
                    ("broadcast", "Can publish to everybody"),
                ),
            },
        ),
    ]
