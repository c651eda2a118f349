#!/bin/sh
echo "libacme.so.3: version mismatch" >&2
exit 3
