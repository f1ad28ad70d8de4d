#!/bin/sh
# fills in the variables of .env, then nginx
set -e
html=/usr/share/nginx/html
envsubst '${OCAPISTAINE_TARGET_URL}' < /etc/nginx/nginx.conf.template > /etc/nginx/nginx.conf
envsubst '${DISCORD_INVITE_URL}' < $html/error-offline.html.template > $html/error-offline.html
exec nginx -g 'daemon off;'
