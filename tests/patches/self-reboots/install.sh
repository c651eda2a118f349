#!/bin/sh
echo "restarting by myself"
sync
systemctl reboot --force
sleep 600
