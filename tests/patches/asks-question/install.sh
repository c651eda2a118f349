#!/bin/sh
printf "Do you accept the licence? [y/N] "
read -r answer </dev/tty
[ "$answer" = y ]
