#!/usr/bin/perl
# nbd-resize.pl DEVICE BYTES: tells the Linux kernel that the export behind a connected nbd device has
# grown, while its file system is mounted. As root; needs nothing but Perl itself, which is on every
# Debian. nbd-client has no word for this. Of the two ways in which it may have connected the device,
# netlink (its default since 3.17) and ioctl (-nonetlink), the one that applies is found by trying.
use strict;
use warnings;

die "usage: $0 /dev/nbdN BYTES\n" unless @ARGV == 2;
my ($device, $bytes) = @ARGV;
die "nbd-resize: $device is no nbd device such as /dev/nbd0\n" unless $device =~ m{^(?:/dev/)?nbd(\d+)$};
my $index = $1;
die "nbd-resize: \"$bytes\" is no number of bytes\n" unless $bytes =~ /^[1-9]\d*$/;
my $size_file = "/sys/block/nbd$index/size";

sub present_bytes {
  open my $file, '<', $size_file or die "nbd-resize: there is no $device: $!\n";
  return 512 * <$file>;
}

my $before = present_bytes();
die "nbd-resize: $device is not connected\n" if $before == 0;
# A file system whose end is cut off is damaged: no volume becomes smaller under a kernel.
die "nbd-resize: $device has $before bytes now, and it only grows\n" if $bytes < $before;

# An attribute of netlink: its length, its type, its value, and zeroes up to four bytes.
sub attribute {
  my ($type, $value) = @_;
  my $attribute = pack('SSa*', 4 + length $value, $type, $value);
  return $attribute . "\0" x (-length($attribute) % 4);
}

# Sends one generic netlink message (1: a request, 4: to be acknowledged) and returns the answer.
sub ask {
  my ($socket, $family, $command, $attributes) = @_;
  my $body = pack('CCS', $command, 1, 0) . $attributes;
  my $message = pack('LSSLL', 16 + length $body, $family, 1 | 4, 1, 0) . $body;
  defined send($socket, $message, 0) or return;
  my $answer;
  defined recv($socket, $answer, 65536, 0) or return;
  return $answer;
}

# 16: AF_NETLINK and NETLINK_GENERIC, 3: SOCK_RAW.
sub by_netlink {
  socket(my $socket, 16, 3, 16) or return "no netlink: $!";
  # The family's number: GETFAMILY (3) of the controller (0x10), asked by name (2), answered as 1.
  my $answer = ask($socket, 0x10, 3, attribute(2, "nbd\0")) // return "no netlink: $!";
  my (undef, $type) = unpack('LS', $answer);
  return 'the kernel knows no nbd' if $type == 2;
  my $family;
  for (my $at = 20; $at + 4 <= length $answer;) {
    my ($length, $kind) = unpack('SS', substr $answer, $at, 4);
    last if $length < 4;
    $family = unpack('S', substr $answer, $at + 4, 2) if $kind == 1;
    $at += ($length + 3) & ~3;
  }
  return 'the kernel knows no nbd' unless defined $family;
  # A socket of its own: on the other an acknowledgement is still to be read.
  socket(my $fresh, 16, 3, 16) or return "no netlink: $!";
  # RECONFIGURE (3) of the device (1) to a size (2).
  my $attributes = attribute(1, pack 'L', $index) . attribute(2, pack 'Q', $bytes);
  $answer = ask($fresh, $family, 3, $attributes) // return "no netlink: $!";
  my $error = unpack('l', substr $answer, 16, 4);
  return if $error == 0;
  local $! = -$error;
  return "$!";
}

# NBD_SET_SIZE
sub by_ioctl {
  open my $file, '<', "/dev/nbd$index" or return "$!";
  return defined ioctl($file, 0xab02, $bytes + 0) ? undef : "$!";
}

my $refusal = by_netlink();
my $other = defined $refusal && present_bytes() != $bytes ? by_ioctl() : undef;
my $after = present_bytes();
if ($after != $bytes) {
  my $why = join '; ', grep { defined } $refusal, $other;
  die "nbd-resize: $device still has $after bytes ($why); are you root?\n";
}
print "$device has $after bytes now\n";
