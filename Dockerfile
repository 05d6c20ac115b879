# One image for every role of Weir; the command says which: `migrate`, `worker`, `api`, `jobs`.
# The versions are those of constraints.txt, which the tests ran with.
ARG PYTHON_IMAGE=python:3.13-slim-trixie

FROM ${PYTHON_IMAGE} AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PYTHONDONTWRITEBYTECODE=1
WORKDIR /build
RUN python -m venv /opt/weir
# Dependencies first: their layer stays the same while only our code changes. The `dev` extra stays out.
COPY pyproject.toml constraints.txt ./
RUN python -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["project"]["dependencies"], sep="\n")' > dependencies.txt \
    && /opt/weir/bin/pip install --only-binary :all: -c constraints.txt -r dependencies.txt
COPY . .
RUN /opt/weir/bin/pip install --no-deps . && /opt/weir/bin/pip check && /opt/weir/bin/pip uninstall -y pip

FROM ${PYTHON_IMAGE}
# What Open3D loads, for the role that measures rooms (ops/system_libraries.py).
RUN apt-get update \
    && apt-get install -y --no-install-recommends libusb-1.0-0 libgl1 libegl1 libx11-6 libidn2-0 \
    && rm -rf /var/lib/apt/lists/*
RUN groupadd --system --gid 10001 weir \
    && useradd --system --uid 10001 --gid weir --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin weir \
    && install -d -o 10001 -g 10001 /var/lib/weir/objects
COPY --from=build /opt/weir /opt/weir
# Nothing is written into the image, so that it runs with a read-only root file system.
ENV PATH=/opt/weir/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
WORKDIR /
USER 10001:10001
EXPOSE 8000
STOPSIGNAL SIGTERM
ENTRYPOINT ["weir"]
CMD ["--help"]
