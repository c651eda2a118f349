#!/usr/bin/perl
# ntp.pl ADDRESS PORT VERSION COUNT: asks for the time and prints a line for each answer: leap, version, mode, stratum, the other
# clock's lead in seconds, and how long the answer took.
use strict;
use warnings;
use Socket;

my ($address, $port, $version, $count) = @ARGV;
# Time::HiRes is not part of Debian's perl-base.
my $machine = `uname -m`;
my $gettimeofday = $machine =~ /x86_64/ ? 96 : 169;
sub now {
    my $timeval = pack 'q2', 0, 0;
    syscall($gettimeofday, $timeval, 0) == 0 or die "gettimeofday: $!\n";
    my ($seconds, $micros) = unpack 'q2', $timeval;
    return $seconds + $micros / 1_000_000;
}
my $epoch = 2_208_988_800;
socket(my $socket, PF_INET, SOCK_DGRAM, getprotobyname('udp') || 17) or die "socket: $!\n";
connect($socket, sockaddr_in($port, inet_aton($address))) or die "connect: $!\n";
for my $number (1 .. $count) {
    my $mark = pack 'N2', $number, int rand 2**32;
    my $sent = now();
    send $socket, pack('C', $version << 3 | 3) . "\0" x 39 . $mark, 0;
    my $packet;
    while (1) {
        my $ready = '';
        vec($ready, fileno $socket, 1) = 1;
        select($ready, undef, undef, 3) or last;
        defined recv($socket, $packet, 512, 0) or undef $packet, last;
        last if length $packet >= 48 && substr($packet, 24, 8) eq $mark;
        undef $packet;
    }
    next if !defined $packet;
    my $came = now();
    my ($first, $stratum) = unpack 'C2', $packet;
    my ($in, $in_part, $out, $out_part) = unpack 'x32N4', $packet;
    my $received = $in - $epoch + $in_part / 2**32;
    my $answered = $out - $epoch + $out_part / 2**32;
    printf "%d %d %d %d %.4f %.4f\n", $first >> 6, $first >> 3 & 7, $first & 7, $stratum,
        ($received - $sent + $answered - $came) / 2, $came - $sent;
}
