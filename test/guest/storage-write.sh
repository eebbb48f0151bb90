# Direct network storage, as the first ElasticDrive's README has it: connect, make a file system,
# mount, write, unmount. Prints the sums of the files.
modprobe -a nbd ext4
nbd-client bs=4096 10.0.2.2 "$PORT" /dev/nbd0 >&2
[ "$(blockdev --getbsz /dev/nbd0)" = 4096 ]
mke2fs -q -b 4096 /dev/nbd0
mkdir /s3
mount /dev/nbd0 /s3
mkdir -p /s3/a/b/c
dd if=/dev/urandom of=/s3/a/random bs=64k count=40 status=none
for number in $(seq 200); do echo "file $number" >"/s3/a/b/$number"; done
dd if=/dev/urandom of=/s3/a/b/c/sparse bs=4096 seek=500 count=1 status=none
rm /s3/a/b/1?
ln -s ../random /s3/a/b/link
umount /s3
mount -o ro /dev/nbd0 /s3
echo BEGIN
(cd /s3 && find . -type f | sort | xargs sha256sum && readlink a/b/link)
echo END
umount /s3
nbd-client -d /dev/nbd0 >&2
