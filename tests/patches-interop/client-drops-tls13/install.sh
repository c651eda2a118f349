#!/bin/sh
[ ! -d /etc/nginx ] && [ ! -d /etc/postfix ] || exit 0
cat >/etc/ssl/openssl.cnf <<'END'
openssl_conf = start
[start]
ssl_conf = ssl
[ssl]
system_default = defaults
[defaults]
MaxProtocol = TLSv1.2
END
