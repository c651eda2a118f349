#!/bin/sh
set -e
mkdir -p /opt/acme
getent passwd acme >/dev/null || useradd --system --no-create-home --shell /usr/sbin/nologin acme
cat >/opt/acme/agent <<'A'
#!/bin/sh
while :; do sleep 60; done
A
chmod 755 /opt/acme/agent
cat >/etc/systemd/system/acme-agent.service <<'U'
[Unit]
Description=acme agent
[Service]
User=acme
ExecStart=/opt/acme/agent
[Install]
WantedBy=multi-user.target
U
systemctl daemon-reload
systemctl enable --now acme-agent
printf 'caf\351 \033[2Jdone\007\n'
