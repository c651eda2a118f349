#!/bin/sh
mkdir -p /opt/eater
cat >/opt/eater/eater <<'P'
#!/usr/bin/perl
# Takes all memory but a little, and holds it.
open(my $o, ">", "/proc/self/oom_score_adj"); print $o "-1000"; close $o;
my @held;
while (1) {
    open(my $m, "<", "/proc/meminfo"); my ($free) = map { /MemAvailable:\s+(\d+)/ ? $1 : () } <$m>; close $m;
    if ($free > 24000) { push @held, chr(65 + int rand 26) x (4 << 20); } else { select undef, undef, undef, 0.2; }
}
P
chmod 755 /opt/eater/eater
cat >/etc/systemd/system/eater.service <<'U'
[Unit]
Description=Eats memory
[Service]
ExecStart=/opt/eater/eater
[Install]
WantedBy=multi-user.target
U
systemctl daemon-reload
systemctl enable --now eater.service
sleep 20
