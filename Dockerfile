# The agent in a container, as 'manage install --runtime docker' builds and runs it: docs/docker.md.
# 'docker build .' does, too. Wheels in wheels/ (scripts/wheels) are taken instead of asking an index.

FROM debian:bookworm-slim AS host
RUN apt-get update \
    && apt-get install --yes --no-install-recommends python3 nftables wireguard-go \
    && apt-get clean \
    && rm -rf /var/lib/apt/lists/*

FROM host AS build
RUN apt-get update && apt-get install --yes --no-install-recommends python3-venv
COPY . /source
WORKDIR /source
# Every file is checked against the lock, wherever it comes from.
RUN python3 -m venv /build \
    && if ls wheels/*.whl >/dev/null 2>&1; then export PIP_NO_INDEX=1 PIP_FIND_LINKS=/source/wheels; fi \
    && /build/bin/pip wheel --require-hashes --requirement requirements/runtime.txt --wheel-dir /wheels \
    && export PIP_NO_INDEX=1 PIP_FIND_LINKS=/wheels \
    && /build/bin/pip wheel --no-deps --wheel-dir /wheels . \
    && python3 -m venv --without-pip /opt/resource-wireguard \
    && /build/bin/pip --python /opt/resource-wireguard/bin/python install resource-wireguard

FROM host
COPY --from=build /opt/resource-wireguard /opt/resource-wireguard
ENV PATH=/opt/resource-wireguard/bin:/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8 CONFIG_DIR=/var/lib/wireguard
HEALTHCHECK --interval=30s --timeout=10s --start-period=20s CMD resource-wireguard status --fast >/dev/null || exit 1
ENTRYPOINT ["resource-wireguard"]
CMD ["agent"]
