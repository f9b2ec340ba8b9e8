# syntax=docker/dockerfile:1
# The server in a container, see docs/howto/docker.md. The first stage builds wheels of indifast and of what it needs;
# the second one installs them, without a compiler.
ARG PYTHON=3.13

FROM python:${PYTHON}-slim-trixie AS build
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends build-essential \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /build
COPY pyproject.toml setup.py MANIFEST.in README.md LICENSE ./
COPY src src
RUN pip wheel --no-cache-dir --wheel-dir /wheels '.[compression]'

FROM python:${PYTHON}-slim-trixie
# libindi's drivers and setpriv (util-linux), which ends drivers with the server; leave out indi-bin for Python drivers
ARG DRIVERS=indi-bin
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends ${DRIVERS} util-linux \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --system --create-home --uid 7624 indi
# hadolint ignore=DL3013
RUN --mount=type=bind,from=build,source=/wheels,target=/wheels \
    pip install --no-cache-dir --no-compile --no-index --find-links /wheels 'indifast[compression]'
USER 7624
WORKDIR /home/indi
EXPOSE 7624
STOPSIGNAL SIGTERM
# No abstract socket: it would be shared with the host if the container uses the host's network.
ENTRYPOINT ["indifast", "serve", "--host", "0.0.0.0", "--no-abstract"]
CMD ["--help"]
