# The same volume on another machine: the file system is clean and the files are there.
modprobe -a nbd ext4
nbd-client bs=4096 10.0.2.2 "$PORT" /dev/nbd0 >&2
e2fsck -fn /dev/nbd0 >&2
mkdir /s3
mount -o ro /dev/nbd0 /s3
echo BEGIN
(cd /s3 && find . -type f | sort | xargs sha256sum && readlink a/b/link)
echo END
umount /s3
nbd-client -d /dev/nbd0 >&2
