# remora and remora-worker, static and alone, as a user without rights. docs/how-to/containers.md says what it may need.
FROM golang:1.26.8 AS build
WORKDIR /src
ARG VERSION=devel
ENV CGO_ENABLED=0
COPY . .
RUN --mount=type=cache,target=/go/pkg/mod --mount=type=cache,target=/root/.cache/go-build \
    for program in remora:starter remora-worker:worker; do \
      go build -trimpath -buildvcs=false -tags timetzdata -ldflags "-s -w -X main.version=$VERSION" \
        -o "/image/usr/local/bin/${program%:*}" "./${program#*:}" || exit; \
    done
# Any user may be given with --user: so everybody may write to the two places that are written to.
RUN mkdir -p /image/etc/ssl/certs /image/var/lib/remora /image/tmp && chmod 1777 /image/var/lib/remora /image/tmp \
    && cp /etc/ssl/certs/ca-certificates.crt /image/etc/ssl/certs/ \
    && echo 'remora:x:10001:10001::/var/lib/remora:/' >/image/etc/passwd

FROM scratch
COPY --from=build /image /
ENV PATH=/usr/local/bin XDG_STATE_HOME=/var/lib
USER 10001:10001
# A worker is healthy when it takes work from Temporal. It may wait a minute for Temporal first.
HEALTHCHECK --interval=15s --timeout=10s --start-period=90s --retries=3 CMD ["remora-worker", "--healthy"]
ENTRYPOINT ["remora"]
