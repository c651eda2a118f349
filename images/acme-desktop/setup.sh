#!/bin/sh
# Sets up a clerk's machine. Runs inside the new root, without services and without a network.
set -eu

useradd --create-home --shell /bin/bash clerk
install -d -o clerk -g clerk /home/clerk/Documents
printf 'order 1: 12 anvils\norder 2: 1 rocket sledge\n' > /home/clerk/Documents/orders.txt
chown clerk:clerk /home/clerk/Documents/orders.txt
