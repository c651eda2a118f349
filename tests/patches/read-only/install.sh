#!/bin/sh
# As the kernel does it after an error on the disk: at once, whoever is writing. It is done by the time that the mounts say so.
echo u >/proc/sysrq-trigger
until grep -q ' / [a-z0-9]* ro[, ]' /proc/mounts; do sleep 0.1; done
