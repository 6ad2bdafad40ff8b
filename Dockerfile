# Not run yet: no Docker daemon was at hand. A test checks its instructions against this directory. docs/operations.md, "Containers".

FROM python:3.11-slim-bookworm

ENV PYTHONUNBUFFERED=1 PIP_NO_CACHE_DIR=1 DJANGO_DEBUG=0
WORKDIR /srv/realtime

# The pinned requirements change seldom: a layer of their own. The last two are for BACKPLANE_URL=amqp://… and kafka://….
COPY requirements.txt requirements-rabbitmq.txt requirements-kafka.txt ./
RUN pip install -r requirements.txt -r requirements-rabbitmq.txt -r requirements-kafka.txt

COPY manage.py ./
COPY config ./config
COPY realtime ./realtime
COPY monitoring ./monitoring
COPY demo ./demo
COPY nginx ./nginx

# What nginx serves. The key is for this command alone: nothing is signed with it.
RUN DJANGO_SECRET_KEY=build DJANGO_ALLOWED_HOSTS=build DEMO=1 BACKPLANE_URL=memory:// \
    python manage.py collectstatic --no-input

RUN useradd --system --no-create-home realtime
USER realtime

EXPOSE 8081
# In this form daphne is process 1 and gets SIGTERM, which drains: give it longer than REALTIME_DRAIN_DEADLINE_SECONDS to stop.
CMD ["daphne", "config.asgi:application", "--bind", "0.0.0.0", "--port", "8081"]
