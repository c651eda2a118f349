#!/bin/sh
sync
systemctl poweroff --force
sleep 600
