# The virtual backup tape: a file system that exists already is copied with dd, block for block.
modprobe -a nbd ext4 loop
truncate -s 24M /root/sda1
mke2fs -q -F -b 4096 /root/sda1
mkdir /disk
mount -o loop,strictatime /root/sda1 /disk
mkdir /disk/d
dd if=/dev/urandom of=/disk/d/one bs=64k count=50 status=none
ln /disk/d/one /disk/d/two
ln /disk/d/one /disk/three
for number in $(seq 50); do echo "$number" >"/disk/d/n$number"; done
touch -a -d '2007-06-01 12:34:56 UTC' /disk/d/one
touch -m -d '2006-03-14 01:02:03 UTC' /disk/d/one
touch -d '1999-12-31 23:59:59 UTC' /disk/d/n7
umount /disk
nbd-client bs=4096 10.0.2.2 "$PORT" /dev/nbd0 >&2
dd if=/root/sda1 of=/dev/nbd0 bs=4096 count=6144 conv=fsync status=none
echo BEGIN
sha256sum </root/sda1
mount -o loop,ro,noatime /root/sda1 /disk
(cd /disk && find . | sort | xargs stat -c '%n %i %h %s %A %X %Y' && find . -type f | sort | xargs sha256sum)
echo END
umount /disk
nbd-client -d /dev/nbd0 >&2
