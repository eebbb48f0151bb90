# A busy XFS is cloned under load; the clone is mounted beside it. The host says that the clone is there
# by listening on CLONED_PORT.
modprobe -a nbd xfs
nbd-client -N disk 10.0.2.2 "$PORT" /dev/nbd0 -b 4096 >&2
mkfs.xfs -q -s size=4096 /dev/nbd0
mkdir /disk /copy
mount -t xfs /dev/nbd0 /disk
for number in $(seq 20); do
  dd if=/dev/urandom of="/disk/$number" bs=1k count=$((number * 37)) status=none
done
sync -f /disk
(cd /disk && sha256sum -- *) >/tmp/sums
# Load that goes on while the clone is made.
until [ -e /tmp/stop ]; do
  dd if=/dev/urandom of=/disk/load bs=64k count=64 conv=notrunc status=none
  sync /disk/load
done &
load=$!
echo ready
until (exec 9<>"/dev/tcp/10.0.2.2/$CLONED_PORT") 2>/dev/null; do sleep 0.1; done
nbd-client -N copy 10.0.2.2 "$PORT" /dev/nbd1 -b 4096 >&2
# Two file systems of one UUID: refused, unless one says that it is meant.
if mount -t xfs /dev/nbd1 /copy 2>/dev/null; then
  echo 'the kernel mounts two file systems of one UUID' >&2
  exit 1
fi
mount -t xfs -o nouuid /dev/nbd1 /copy
(cd /copy && sha256sum -c --quiet /tmp/sums)
echo 'only of the copy' >/copy/own
echo 'only of the source' >/disk/own
rm /copy/7 /disk/8
touch /tmp/stop
wait "$load"
umount /copy /disk
echo 3 >/proc/sys/vm/drop_caches
xfs_repair -n /dev/nbd0 >&2
xfs_repair -n /dev/nbd1 >&2
mount -t xfs -o ro /dev/nbd0 /disk
mount -t xfs -o ro,nouuid /dev/nbd1 /copy
grep -q 'only of the source' /disk/own
grep -q 'only of the copy' /copy/own
(cd /disk && grep -v '  8$' /tmp/sums | sha256sum -c --quiet)
(cd /copy && grep -v '  7$' /tmp/sums | sha256sum -c --quiet)
umount /copy /disk
nbd-client -d /dev/nbd1 >&2
nbd-client -d /dev/nbd0 >&2
echo independent
