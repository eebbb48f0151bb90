# Files are written while the device's server goes and comes back. "written N" says that file N is
# synced; what was written is read again from the device at the end. The host says when that is by
# listening on STOP_PORT.
modprobe -a nbd "$FILE_SYSTEM"
nbd-client -N disk 10.0.2.2 "$PORT" /dev/nbd0 -b 4096 >&2
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
until (exec 9<>"/dev/tcp/10.0.2.2/$STOP_PORT") 2>/dev/null; do
  number=$((number + 1))
  dd if=/dev/urandom of=/tmp/new bs=1k count=$((number * 37 % 200 + 1)) status=none
  (cd /tmp && sha256sum new) | sed "s/new/$number/" >>/tmp/sums
  cp /tmp/new "/disk/$number"
  sync "/disk/$number"
  echo "written $number"
done
touch /tmp/stop
wait "$load"
umount /disk
echo 3 >/proc/sys/vm/drop_caches
case $FILE_SYSTEM in
  ext4) e2fsck -fn /dev/nbd0 >&2 ;;
  xfs) xfs_repair -n /dev/nbd0 >&2 ;;
esac
mount -t "$FILE_SYSTEM" -o ro /dev/nbd0 /disk
(cd /disk && sha256sum -c --quiet /tmp/sums)
umount /disk
# What the kernel would have said of a request that failed.
! dmesg | grep -iE 'I/O error|error.*nbd0|nbd0.*(timed out|shutting down)|shut ?down|remount' >&2
nbd-client -d /dev/nbd0 >&2
echo "whole $number"
