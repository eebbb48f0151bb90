# The tape is read back on another machine: the same bytes, times and hard links.
modprobe -a nbd ext4 loop
nbd-client bs=4096 10.0.2.2 "$PORT" /dev/nbd0 >&2
dd if=/dev/nbd0 of=/root/sda1 bs=4096 count=6144 status=none
mkdir /disk
echo BEGIN
sha256sum </root/sda1
mount -o loop,ro,noatime /root/sda1 /disk
(cd /disk && find . | sort | xargs stat -c '%n %i %h %s %A %X %Y' && find . -type f | sort | xargs sha256sum)
echo END
umount /disk
nbd-client -d /dev/nbd0 >&2
