#!/bin/sh
for interface in /sys/class/net/*; do
    name=${interface##*/}
    [ "$name" = lo ] || { ip address flush dev "$name"; ip link set "$name" down; }
done
