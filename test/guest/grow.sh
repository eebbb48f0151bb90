# A mounted file system grows while it is written to, with the device that it is on. "written N" says
# that file N is synced. The host says that the volume has grown by listening on GROWN_PORT, and that
# it is enough by listening on STOP_PORT.
modprobe -a nbd "$FILE_SYSTEM"
connect() {
  # shellcheck disable=SC2086
  nbd-client $NBD_FLAGS -N disk 10.0.2.2 "$PORT" /dev/nbd0 -b 4096 >&2
  # With ioctls a process of its own connects the device, a little later.
  until [ "$(cat /sys/block/nbd0/size)" != 0 ]; do usleep 20000; done
}
is_told() { (exec 9<>"/dev/tcp/10.0.2.2/$1") 2>/dev/null; }
connect
case $FILE_SYSTEM in
  ext4) mke2fs -q -t ext4 -b 4096 /dev/nbd0 ;;
  xfs) mkfs.xfs -q -s size=4096 /dev/nbd0 ;;
esac
mkdir /disk
mount -t "$FILE_SYSTEM" /dev/nbd0 /disk
# Load that nobody waits for: the kernel writes it back when it likes.
until [ -e /tmp/stop ]; do
  dd if=/dev/urandom of=/disk/load bs=64k count=64 conv=notrunc status=none
done &
load=$!
number=0
write_next() {
  number=$((number + 1))
  dd if=/dev/urandom of=/tmp/new bs=1k count=$((number * 37 % 200 + 1)) status=none
  (cd /tmp && sha256sum new) | sed "s/new/$number/" >>/tmp/sums
  cp /tmp/new "/disk/$number"
  sync "/disk/$number"
  echo "written $number"
}
until is_told "$GROWN_PORT"; do write_next; done
nbd-resize.pl /dev/nbd0 "$GROWN_BYTES"
case $FILE_SYSTEM in
  ext4) resize2fs /dev/nbd0 >&2 ;;
  xfs) xfs_growfs /disk >&2 ;;
esac
# More than the old device could hold.
dd if=/dev/urandom of=/disk/large bs=1M count="$FILL_MEBIBYTES" status=none
(cd /disk && sha256sum large) >>/tmp/sums
sync /disk/large
echo grown
until is_told "$STOP_PORT"; do write_next; done
touch /tmp/stop
wait "$load"
umount /disk
nbd-client -d /dev/nbd0 >&2
# What connected it by ioctls must be gone: it would disconnect whatever comes next.
while pidof nbd-client >/dev/null || [ "$(cat /sys/block/nbd0/size)" != 0 ]; do usleep 20000; done
connect
[ "$(blockdev --getsize64 /dev/nbd0)" = "$GROWN_BYTES" ]
case $FILE_SYSTEM in
  ext4) e2fsck -fn /dev/nbd0 >&2 ;;
  xfs) xfs_repair -n /dev/nbd0 >&2 ;;
esac
mount -t "$FILE_SYSTEM" -o ro /dev/nbd0 /disk
(cd /disk && sha256sum -c --quiet /tmp/sums)
umount /disk
# What the kernel would have said of a request that failed.
! dmesg | grep -iE 'I/O error|error.*nbd0|nbd0.*timed out|remount' >&2
nbd-client -d /dev/nbd0 >&2
echo "whole $number"
