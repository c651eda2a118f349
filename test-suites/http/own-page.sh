#!/bin/sh
curl --silent --show-error --fail --max-time 20 http://localhost/ >page || exit 1
[ -s page ] || { echo "the front page is empty"; exit 1; }
