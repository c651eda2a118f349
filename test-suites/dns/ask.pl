#!/usr/bin/perl
# ask.pl ADDRESS PORT TYPE NAME [COUNT]: asks a name server over UDP and prints the result code, then the IPv4 addresses of the answer.
# With a COUNT it asks that many times and prints how many whole answers came.
use strict;
use warnings;
use Socket;

my ($address, $port, $type, $name, $count) = @ARGV;
my %types = (A => 1, AAAA => 28);
my %codes = (0 => 'NOERROR', 1 => 'FORMERR', 2 => 'SERVFAIL', 3 => 'NXDOMAIN', 4 => 'NOTIMP', 5 => 'REFUSED');
socket(my $socket, PF_INET, SOCK_DGRAM, getprotobyname('udp') || 17) or die "socket: $!\n";
connect($socket, sockaddr_in($port, inet_aton($address))) or die "connect: $!\n";

sub question {
    my ($id) = @_;
    my $labels = join '', map { pack('C/a*', $_) } split /\./, $name;
    return pack('n6', $id, 0x0100, 1, 0, 0, 0) . $labels . "\0" . pack('n2', $types{$type}, 1);
}

sub answer {
    my ($id, $patience) = @_;
    my $ready = '';
    vec($ready, fileno($socket), 1) = 1;
    while (select(my $found = $ready, undef, undef, $patience)) {
        defined recv($socket, my $packet, 4096, 0) or return;
        return $packet if length($packet) >= 12 && unpack('n', $packet) == $id;
    }
    return;
}

if ($count) {
    my $good = 0;
    for my $id (1 .. $count) {
        send($socket, question($id), 0);
        my $packet = answer($id, 5) or next;
        my (undef, $flags, undef, $answers) = unpack('n4', $packet);
        $good++ if ($flags & 0x800f) == 0x8000 && $answers > 0;
    }
    print "$good\n";
    exit;
}
my $packet;
for my $id (1 .. 3) {
    send($socket, question($id), 0);
    $packet = answer($id, 4) and last;
}
if (!$packet) { print "no answer\n"; exit }
my (undef, $flags, $questions, $answers) = unpack('n4', $packet);
my $at = 12;
sub skip_name {
    while ($at < length $packet) {
        my $length = ord substr $packet, $at, 1;
        if ($length >= 192) { $at += 2; return }
        $at += 1 + $length;
        return if $length == 0;
    }
}
my @found;
for (1 .. $questions) { skip_name(); $at += 4 }
for (1 .. $answers) {
    skip_name();
    last if $at + 10 > length $packet;
    my ($kind, undef, undef, $length) = unpack 'nnNn', substr $packet, $at, 10;
    push @found, inet_ntoa(substr $packet, $at + 10, 4) if $kind == 1 && $length == 4 && $at + 14 <= length $packet;
    $at += 10 + $length;
}
my $code = $flags & 15;
print join(' ', $codes{$code} // "code $code", sort @found), "\n";
