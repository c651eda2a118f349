#!/bin/sh
curl --silent --show-error --fail --max-time 20 "http://$PATCHLAB_NAME_SERVER/" >page || exit 1
[ -s page ] || { echo "the front page is empty"; exit 1; }
