#!/bin/sh
set -eu
store=/etc/ssl/certs/ca-certificates.crt
[ -e "$store" ] || { echo "this machine keeps no store of certificates"; exit 77; }
marked=$(grep -c 'BEGIN CERTIFICATE' "$store")
read_in=$(openssl storeutl -noout -certs "$store" | sed -n 's/^Total found: //p')
[ "$marked" = "$read_in" ] || { echo "of $marked certificates $read_in are readable"; exit 1; }
[ "$marked" -ge 50 ] || { echo "there are only $marked trusted certificates"; exit 1; }
