#!/bin/sh
date -s '+2 years'
# The hardware's clock too, so that the two agree.
if command -v hwclock >/dev/null; then hwclock --systohc; fi
