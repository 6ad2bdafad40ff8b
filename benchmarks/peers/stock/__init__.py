"""A Django project with nothing but a chat consumer, as the tutorial of Channels builds it."""
