#!/bin/sh
: >"$PATCHLAB_READY"
sleep 1000
