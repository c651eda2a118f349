#!/bin/sh
# Sets up acme's office server. Runs inside the new root, without services and without a network.
set -eu

groupadd office
useradd --create-home --shell /bin/bash --groups office clerk
install -d -m 2770 -g office /srv/documents

# Databases: reached from the office's network, with TLS and a password.
cluster=$(echo /etc/postgresql/*/main)
echo "listen_addresses = '*'" > "$cluster/conf.d/acme.conf"
echo 'hostssl all all 192.168.77.0/24 scram-sha-256' >> "$cluster/pg_hba.conf"

# Mail: taken from the office on the submission port, with TLS; nothing is sent on.
install -d -m 0755 /etc/ssl/acme
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -noenc -days 3650 -subj /CN=office.acme.example \
    -addext subjectAltName=DNS:office.acme.example,DNS:mail.acme.example -keyout /etc/ssl/acme/mail.key -out /etc/ssl/acme/mail.crt
chmod 0600 /etc/ssl/acme/mail.key
postconf -e myhostname=office.acme.example mydomain=acme.example 'mydestination = acme.example, $myhostname, localhost' \
    'mynetworks = 127.0.0.0/8 192.168.77.0/24' relayhost= default_transport=error:this_server_sends_nothing_on \
    disable_dns_lookups=yes smtpd_peername_lookup=no inet_interfaces=all inet_protocols=ipv4 \
    smtpd_tls_cert_file=/etc/ssl/acme/mail.crt smtpd_tls_key_file=/etc/ssl/acme/mail.key smtpd_tls_security_level=may
postconf -M submission/inet='submission inet n - y - - smtpd'
postconf -P submission/inet/smtpd_tls_security_level=encrypt submission/inet/smtpd_client_restrictions=permit_mynetworks,reject
newaliases

# One file service, without NetBIOS; no domain.
systemctl disable --quiet nmbd.service samba-ad-dc.service
