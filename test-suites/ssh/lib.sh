# Shared by this suite's cases: a key of the case's own for a user of the machine. The user's keys are put back afterwards.
set -eu
user=$(awk -F: '$3 >= 1000 && $3 < 60000 && $7 ~ "/(ba|da|z)?sh$" { print $1; exit }' /etc/passwd)
user=${user:-root}
home=$(getent passwd "$user" | cut -d: -f6)
keys=$home/.ssh/authorized_keys
port=$(sshd -T 2>/dev/null | awk '$1 == "port" { print $2; exit }')
had_folder=yes
[ -d "$home/.ssh" ] || had_folder=
if [ -e "$keys" ]; then cp -p "$keys" kept; fi
put_back() {
    [ ! -e shared ] || ssh -o ControlPath="$PWD/shared" -O exit x 2>/dev/null || true
    if [ -e kept ]; then cp -p kept "$keys"; else rm -f "$keys"; fi
    [ -n "$had_folder" ] || rmdir "$home/.ssh" 2>/dev/null || true
}
trap put_back EXIT
trap 'exit 1' INT TERM
ssh-keygen -q -t ed25519 -N '' -C patchlab -f key
mkdir -p "$home/.ssh"
cat key.pub >>"$keys"
[ -n "$had_folder" ] || chown "$user:" "$home/.ssh"
chmod 700 "$home/.ssh" && chmod 600 "$keys" && chown "$user:" "$keys"
options="-F /dev/null -o BatchMode=yes -o StrictHostKeyChecking=no -o UserKnownHostsFile=$PWD/known -o LogLevel=ERROR -o ConnectTimeout=15 -o IdentitiesOnly=yes -o PreferredAuthentications=publickey"
# One connection that the following ones share: a handshake each would take most of the time.
# shellcheck disable=SC2086
share() {
    options="$options -o ControlPath=$PWD/shared"
    ssh $options -o ControlMaster=yes -o ControlPersist=60 -p "$port" -i key "$user@127.0.0.1" true
}
# shellcheck disable=SC2086
login() { ssh $options -p "$port" -i key "$user@127.0.0.1" "$@"; }
