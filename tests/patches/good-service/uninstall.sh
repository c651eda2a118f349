#!/bin/sh
set -e
systemctl disable --now acme-agent
rm -rf /etc/systemd/system/acme-agent.service /opt/acme
systemctl daemon-reload
userdel acme
