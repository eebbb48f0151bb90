# The mirror is assembled on another machine from the volume alone.
modprobe -a nbd ext4 raid1
nbd-client bs=4096 10.0.2.2 "$PORT" /dev/nbd0 >&2
mdadm -A /dev/md0 --run /dev/nbd0 >&2
e2fsck -fn /dev/md0 >&2
mkdir /s3
mount -o ro /dev/md0 /s3
echo BEGIN
(cd /s3 && find . -type f | sort | xargs sha256sum)
echo END
umount /s3
mdadm --stop /dev/md0 >&2
nbd-client -d /dev/nbd0 >&2
