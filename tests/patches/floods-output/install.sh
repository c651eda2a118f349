#!/bin/sh
head -c 100000000 /dev/zero | tr "\000" x | fold -w 200
echo "the end of the flood"
exit 3
