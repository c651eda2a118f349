#!/bin/sh
# Sets up acme's web shop. Runs inside the new root, without services and without a network.
set -eu

install -d -m 0750 /etc/ssl/acme
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -noenc -days 3650 -subj /CN=web.acme.example \
    -addext subjectAltName=DNS:web.acme.example,IP:192.168.77.10 -keyout /etc/ssl/acme/web.key -out /etc/ssl/acme/web.crt
chmod 0600 /etc/ssl/acme/web.key

rm -f /etc/nginx/sites-enabled/default
ln -s ../sites-available/acme /etc/nginx/sites-enabled/acme

# Patches are applied by the lab; needrestart only reports what they leave to be restarted.
install -d /etc/needrestart/conf.d
echo '$nrconf{restart} = "l";' > /etc/needrestart/conf.d/acme.conf

useradd --create-home --shell /bin/sh operator-acme
