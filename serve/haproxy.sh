#!/bin/sh
# HAProxy, with what Ray Serve has no setting for. Serve starts this in its place (serve/front.py), with the configuration
# that it has just written after -f.
# - It listens at $AUTODRIVERL_LISTEN alone: Serve and its replicas keep to loopback, and HAProxy's own two pages go.
# - The head of a request has 20 s: a connection that begins one and does not end it is closed.
# - The client's address stands in x-forwarded-for.
# - It ends with the process that started it.
set -eu
config= before=
for argument; do
    [ "$before" = -f ] && config=$argument
    before=$argument
done
if [ -n "$config" ]; then
    sed -i -E \
        -e '/^frontend prometheus$/,/^frontend http_frontend$/{/^frontend http_frontend$/!d}' \
        -e '/^listen stats$/,$d' \
        -e "/^frontend http_frontend\$/,/^backend /s/^( *bind ).*/\1$AUTODRIVERL_LISTEN/" \
        -e '/^defaults$/,/^frontend/s/^    mode http$/&\n    timeout http-request 20s\n    option forwardfor/' \
        "$config"
fi
if command -v setpriv > /dev/null; then
    exec setpriv --pdeathsig KILL "$AUTODRIVERL_HAPROXY" "$@"
fi
exec "$AUTODRIVERL_HAPROXY" "$@"
