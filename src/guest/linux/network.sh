# Gives the NICs their static addresses, the way this system keeps its own, and the peers their names. Written once, before anything is
# looked at: from then on the system has to bring the network up by itself at every boot. Environment:
#   nics     a line each: MAC ADDRESS/PREFIX
#   hosts    lines for /etc/hosts
#   interfaces   interfaces.awk
device_of() {
    for device in /sys/class/net/*; do
        read -r found <"$device/address" || continue
        if [ "$found" = "$1" ]; then
            device=${device##*/}
            return 0
        fi
    done
    return 1
}

# has ADDRESS: whether a link that is up has it.
has() { ip -o -4 address show up 2>/dev/null | grep -qF " $1 "; }

by_networkd() {
    cat >"/etc/systemd/network/05-patchlab-$number.network" <<END
[Match]
MACAddress=$mac

[Network]
Address=$address
LinkLocalAddressing=no
IPv6AcceptRA=no
END
    networkctl reload && networkctl reconfigure "$device"
}

by_networkmanager() {
    nmcli connection delete "patchlab-$number" >/dev/null 2>&1
    nmcli connection add type ethernet con-name "patchlab-$number" ifname "$device" ipv4.method manual ipv4.addresses "$address" \
        ipv6.method disabled connection.autoconnect-priority 100 && nmcli connection up "patchlab-$number"
}

by_ifupdown() {
    ifdown --force "$device" >/dev/null 2>&1
    mkdir -p /etc/network/interfaces.d
    for file in /etc/network/interfaces /etc/network/interfaces.d/*; do
        [ -f "$file" ] || continue
        rest=$(awk -v device="$device" "$interfaces" "$file") || return
        printf '%s\n' "$rest" >"$file"
    done
    printf 'auto %s\niface %s inet static\n    address %s\n' "$device" "$device" "$address" >"/etc/network/interfaces.d/patchlab-$number"
    grep -qsE '^[[:space:]]*source(-directory)? .*interfaces\.d' /etc/network/interfaces || echo 'source /etc/network/interfaces.d/*' >>/etc/network/interfaces
    ifup "$device"
}

# keeps UNIT STATE: whether a service that runs has a hand on the device; STATE is what it says of it.
keeps() { systemctl --quiet is-active "$1" && [ -n "$2" ] && [ "${2#*unmanaged}" = "$2" ]; }

# way: what keeps this device, or else what could.
find_way() {
    if keeps systemd-networkd.service "$(networkctl --no-legend list "$device" 2>/dev/null)"; then
        way=by_networkd
    elif keeps NetworkManager.service "$(nmcli --get-values GENERAL.STATE device show "$device" 2>/dev/null)"; then
        way=by_networkmanager
    elif command -v ifup >/dev/null &&
        grep -qsE "^[[:space:]]*iface[[:space:]]+$device([[:space:]]|\$)" /etc/network/interfaces /etc/network/interfaces.d/*; then
        way=by_ifupdown
    elif systemctl --quiet is-active systemd-networkd.service; then
        way=by_networkd
    elif systemctl --quiet is-active NetworkManager.service; then
        way=by_networkmanager
    elif command -v ifup >/dev/null; then
        way=by_ifupdown
    else
        end $cannot "nothing keeps this system's network: expected systemd-networkd, NetworkManager or ifupdown"
    fi
}
number=0
while read -r mac address; do
    device_of "$mac" || end $cannot "there is no network device with the address $mac"
    find_way
    $way </dev/null || end $cannot "could not give $device the address $address ($way)"
    number=$((number + 1))
done <<END
$nics
END
printf '%s\n' "$hosts" >>/etc/hosts

# The address is there once the link is up.
tries=0
while read -r mac address; do
    until has "$address"; do
        tries=$((tries + 1))
        [ "$tries" -lt 240 ] || end $cannot "the network device with $mac has not come up with $address within 60 s"
        sleep 0.25
    done
done <<END
$nics
END
