FROM nginx:1.30.6

ARG AGENT_NAME
# our own authority signs the tunnel
COPY tunnel-ca.pem /etc/ssl/certs/ca-certificates.crt
COPY proxy-configs/${AGENT_NAME}.conf.template /etc/nginx/nginx.conf.template
COPY proxy-configs/error-offline.html.template /usr/share/nginx/html/error-offline.html.template
COPY docker/start.sh /start.sh

CMD ["sh", "/start.sh"]
