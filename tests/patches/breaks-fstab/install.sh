#!/bin/sh
echo 'UUID=dead0000-0000-4000-8000-000000000000 /srv/data ext4 defaults 0 2' >>/etc/fstab
mkdir -p /srv/data
