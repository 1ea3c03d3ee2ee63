#!/bin/sh
# HAProxy, with what Ray Serve has no setting for: its own two pages on loopback alone, 20 s for the head of a request (a
# connection that begins one and does not end it is closed), and the client's address in x-forwarded-for.
# Serve starts this in place of HAProxy (serve/front.py), with the configuration that it has just written after -f.
set -eu
config= before=
for argument; do
    [ "$before" = -f ] && config=$argument
    before=$argument
done
if [ -n "$config" ]; then
    sed -i -E \
        -e "s/^( *bind )\*?:($RAY_SERVE_HAPROXY_METRICS_PORT|$RAY_SERVE_HAPROXY_STATS_PORT)\$/\1127.0.0.1:\2/" \
        -e '/^defaults$/,/^frontend/s/^    mode http$/&\n    timeout http-request 20s\n    option forwardfor/' \
        "$config"
fi
exec "$AUTODRIVERL_HAPROXY" "$@"
