# One image for the three roles: streamlearn learn | control | serve --api-only, each with a configuration file.

FROM python:3.11-slim-bookworm AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /build
COPY pyproject.toml README.md LICENSE ./
COPY src ./src
RUN python -m venv /opt/streamlearn && /opt/streamlearn/bin/pip install --no-cache-dir .

FROM python:3.11-slim-bookworm
RUN groupadd --system --gid 10001 streamlearn \
    && useradd --system --uid 10001 --gid 10001 --no-create-home --shell /usr/sbin/nologin streamlearn \
    && install --directory --owner=streamlearn --group=streamlearn --mode=0700 /var/lib/streamlearn
COPY --from=build /opt/streamlearn /opt/streamlearn
ENV PATH=/opt/streamlearn/bin:$PATH PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 HOME=/tmp
WORKDIR /var/lib/streamlearn
USER 10001:10001
EXPOSE 8321
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=15s --timeout=10s --start-period=60s --retries=3 \
    CMD ["streamlearn", "healthy", "serve", "/etc/streamlearn/service.toml"]
ENTRYPOINT ["streamlearn"]
CMD ["serve", "--api-only", "/etc/streamlearn/service.toml"]
