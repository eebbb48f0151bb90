# Software RAID: a local disk and the volume mirror each other; the local disk is this machine's
# memory, so it is lost with it.
modprobe -a nbd ext4 loop raid1
truncate -s 48M /root/sda2
losetup /dev/loop0 /root/sda2
nbd-client bs=4096 10.0.2.2 "$PORT" /dev/nbd0 >&2
mdadm --create /dev/md0 --run --metadata=1.2 -n2 --level 1 /dev/loop0 --write-mostly /dev/nbd0 >&2
grep -q '(W)' /proc/mdstat
mke2fs -q -b 4096 /dev/md0
mkdir /s3
mount /dev/md0 /s3
dd if=/dev/urandom of=/s3/first bs=64k count=100 status=none
mdadm --wait /dev/md0 >&2 || true
mkdir /s3/d
for number in $(seq 100); do echo "after the first copy $number" >"/s3/d/$number"; done
sync
echo BEGIN
(cd /s3 && find . -type f | sort | xargs sha256sum)
echo END
umount /s3
mdadm --stop /dev/md0 >&2
nbd-client -d /dev/nbd0 >&2
