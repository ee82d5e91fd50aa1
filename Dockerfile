# Stage 1: the locked packages, each checked against its hash.
FROM python:3.13-slim AS packages
COPY requirements-runtime.lock /
RUN python -m venv /venv \
    && /venv/bin/pip install --no-cache-dir --disable-pip-version-check --only-binary :all: \
        --require-hashes --requirement /requirements-runtime.lock

# Stage 2: what runs. No compiler, no cache, no development package, no root.
FROM python:3.13-slim
# A new volume takes the owner of the folder that it is mounted on.
RUN useradd --system --uid 10001 --user-group --no-create-home --shell /usr/sbin/nologin billing \
    && install --directory --owner=10001 --group=10001 /metrics /flower /beat
COPY --from=packages /venv /venv
WORKDIR /app
COPY LICENSE ./
COPY models ./models
COPY tasks ./tasks
COPY webhooks ./webhooks
COPY worker ./worker
# Compiled here: the container's file system is read-only.
RUN /venv/bin/python -m compileall -q .
ENV PATH=/venv/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
USER 10001:10001
# The `billing` command: `docker run IMAGE worker`, `docker run IMAGE doctor`.
ENTRYPOINT ["python", "-m", "worker"]
CMD ["--help"]
