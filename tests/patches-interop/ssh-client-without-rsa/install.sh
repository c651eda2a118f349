#!/bin/sh
[ ! -d /etc/nginx ] && [ ! -d /etc/postfix ] || exit 0
cp -n /usr/bin/ssh /usr/bin/ssh.real
cat >/usr/bin/ssh <<'END'
#!/bin/sh
exec /usr/bin/ssh.real -o HostKeyAlgorithms=-*rsa* "$@"
END
