#!/bin/sh
# The link is down: that nobody answers is the case's own doing, and has to be so.
. "$PATCHLAB_SUITE/lib.sh"
if get --connect-timeout 2 -o /dev/null "http://$PATCHLAB_ADDRESS_SERVER/$place/page" 2>/dev/null; then
    echo "the server answers over a link that is down"
    exit 99
fi
