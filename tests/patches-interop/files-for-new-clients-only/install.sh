#!/bin/sh
[ -e /etc/samba/smb.conf ] && [ -d /etc/postfix ] || exit 0
sed -i 's/server min protocol = .*/server min protocol = SMB3_11/' /etc/samba/smb.conf
systemctl restart smbd
