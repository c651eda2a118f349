#!/bin/sh
echo "version 2.0 is expected, 1.0 is here"
exit 1
