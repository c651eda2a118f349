#!/bin/sh
. "$PATCHLAB_SUITE/server.sh"
certificate good shop.test 2
head -c 2097152 /dev/urandom >large.bin
serve 4433 good
get --cacert ca.pem --resolve shop.test:4433:127.0.0.1 -o by-curl https://shop.test:4433/large.bin
cmp by-curl large.bin || { echo "curl changed the download"; exit 1; }
if command -v wget >/dev/null; then
    wget -q --no-proxy --no-check-certificate -O by-wget https://127.0.0.1:4433/large.bin || { echo "wget cannot download"; exit 1; }
    cmp by-wget large.bin || { echo "wget changed the download"; exit 1; }
fi
