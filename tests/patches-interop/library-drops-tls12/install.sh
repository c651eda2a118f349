#!/bin/sh
cat >/etc/ssl/openssl.cnf <<'END'
openssl_conf = start
[start]
ssl_conf = ssl
[ssl]
system_default = defaults
[defaults]
MinProtocol = TLSv1.3
END
