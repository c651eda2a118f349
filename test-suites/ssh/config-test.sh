#!/bin/sh
set -eu
sshd -t
sshd -T >settings
port=$(awk '$1 == "port" { print $2; exit }' settings)
awk '$1 == "hostkey" { print $2 }' settings >files
ssh-keyscan -T 15 -t ed25519 -p "$port" 127.0.0.1 2>/dev/null | awk '{ print $2, $3 }' | sort >offered
[ -s offered ] || { echo "sshd offers no host key"; exit 1; }
while read -r file; do
    [ -e "$file" ] || continue
    case $(stat -c %a "$file") in 600 | 640) ;; *) echo "$file has mode $(stat -c %a "$file")"; exit 1 ;; esac
    cut -d' ' -f1,2 "$file.pub"
done <files | sort >keys
[ -z "$(comm -13 keys offered)" ] || { echo "sshd offers a key that is not one of its files"; exit 1; }
