# What is left of a file of ifupdown's once one device is taken out of it. A stanza goes on until the next begins.
# Variable: device
$1 ~ /^(iface|auto|allow-.*|mapping|rename|source|source-directory|template|no-auto-down|no-scripts)$/ {
    ours = $1 == "iface" && $2 == device
}
ours { next }
$1 == "auto" || $1 ~ /^allow-/ {
    others = ""
    for (at = 2; at <= NF; at++) if ($at != device) others = others " " $at
    if (others != "") print $1 others
    next
}
{ print }
