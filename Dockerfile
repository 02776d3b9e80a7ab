# warp in a container. The image holds Node, the compiled program and its dependencies, and runs as a user without root.
#
#   docker build --build-arg COMMIT=$(git rev-parse HEAD) -t warp .
#   docker run --rm -p 127.0.0.1:10025:10025 warp --ip 0.0.0.0 --client 172.16.0.0/12 --destination mx.example.net:25
#
# Capturing (mode redirect, tproxy) needs the network namespace of the mail server: --network container:MTA, or a
# sidecar in one pod, with --cap-add NET_ADMIN; docs/operations.md has the whole of it.
FROM node:24-bookworm-slim AS build
RUN apt-get update && apt-get install -y --no-install-recommends g++ make python3 && rm -rf /var/lib/apt/lists/*
WORKDIR /build
COPY package.json package-lock.json binding.gyp tsconfig.json tsconfig.build.json ./
COPY scripts ./scripts
COPY native ./native
RUN npm ci --no-audit --no-fund
COPY proto ./proto
COPY src ./src
# The image has its Node already: the one that a checkout brings along is an optional dependency and left out.
RUN npm run build && npm prune --omit=dev --omit=optional --no-audit --no-fund --ignore-scripts

FROM node:24-bookworm-slim
# nftables: `warp rules --apply` in an init container.
RUN apt-get update && apt-get install -y --no-install-recommends nftables iproute2 && rm -rf /var/lib/apt/lists/* \
    && groupadd --system --gid 990 warp && useradd --system --uid 990 --gid warp --home-dir /var/lib/warp warp \
    && install -d -o warp -g warp -m 0700 /var/lib/warp /run/warp
WORKDIR /usr/lib/warp
COPY --from=build /build/package.json ./
COPY --from=build /build/node_modules ./node_modules
COPY --from=build /build/build ./build
COPY --from=build /build/dist ./dist
COPY --from=build /build/proto ./proto
RUN ln -s /usr/lib/warp/dist/cli/main.js /usr/bin/warp && chmod +x dist/cli/main.js
ARG COMMIT=unknown
ENV WARP_COMMIT=$COMMIT NODE_ENV=production
USER warp
EXPOSE 10025 9625
STOPSIGNAL SIGTERM
ENTRYPOINT ["warp"]
