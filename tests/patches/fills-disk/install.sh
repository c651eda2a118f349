#!/bin/sh
mkdir -p /opt/ballast
free=$(df -P -B1 / | awk 'NR == 2 { print $4 }')
fallocate -l $((free - 4194304)) /opt/ballast/big
echo "made room for later"
