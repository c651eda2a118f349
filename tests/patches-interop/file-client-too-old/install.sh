#!/bin/sh
[ -e /etc/samba/smb.conf ] && [ ! -d /etc/postfix ] || exit 0
sed -i '/^\[global\]/a client min protocol = NT1\nclient max protocol = NT1' /etc/samba/smb.conf
