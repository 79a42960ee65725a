# grepq serve in a container: small, as nobody in particular, with the model inside and no network needed.
#
#   docker build -t grepq-iqa .
#   docker run --read-only --tmpfs /tmp -p 127.0.0.1:8000:8000 -e GREPQ_SERVE_TOKEN="$(openssl rand -hex 16)" grepq-iqa
FROM python:3.12-slim AS build
WORKDIR /source
COPY pyproject.toml README.md LICENSE CHANGELOG.md CITATION.cff weights.json ./
COPY grepq_iqa grepq_iqa
# torch's wheels for the CPU are a tenth of the others' size.
RUN python -m venv /opt/grepq \
    && /opt/grepq/bin/pip install --no-cache-dir --extra-index-url https://download.pytorch.org/whl/cpu ".[serve]" \
    && /opt/grepq/bin/python -m compileall -q /opt/grepq/lib

FROM python:3.12-slim
LABEL org.opencontainers.image.title="grepq-iqa" \
      org.opencontainers.image.licenses="MIT"
COPY --from=build /opt/grepq /opt/grepq
RUN useradd --system --uid 10001 --no-create-home --home-dir /tmp grepq \
    && install -d -o grepq /ratings
ENV PATH=/opt/grepq/bin:$PATH \
    HF_HUB_OFFLINE=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
USER 10001
WORKDIR /ratings
EXPOSE 8000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=60s \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/readyz', timeout=2)"]
ENTRYPOINT ["grepq", "serve", "--host", "0.0.0.0"]
