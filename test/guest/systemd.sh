# The service as its users have it: installed, started, killed, hung, stopped, while an ext4 on its
# volume is written. STORE is where the volume is, INSTALL what "systemd install" is told, OWNER whom
# the store belongs to, ENVIRONMENT the credentials.
at() { echo "at $(cut -d. -f1 /proc/uptime) $*"; }
mkdir /etc/elasticdrive
echo "$CONFIGURATION" >/etc/elasticdrive/config.toml
(umask 077 && echo "$ENVIRONMENT" >/etc/elasticdrive/environment)
(
  set -a
  . /etc/elasticdrive/environment
  HOME=/tmp setpriv --reuid "$OWNER" --regid "$OWNER" --clear-groups elasticdrive volume create disk \
    --size 128MiB --config /etc/elasticdrive/config.toml
)
elasticdrive systemd install --config /etc/elasticdrive/config.toml $INSTALL
at installed
# A hang is to be noticed within this test.
mkdir /etc/systemd/system/elasticdrive.service.d
printf '[Service]\nWatchdogSec=10\n' >/etc/systemd/system/elasticdrive.service.d/short.conf
systemctl daemon-reload
systemctl start elasticdrive.socket
[ "$(systemctl is-active elasticdrive.service || true)" = inactive ]
modprobe nbd
# Nobody serves yet: the client waits in the socket's queue, and systemd starts the service for it.
nbd-client -unix /run/elasticdrive/nbd.sock /dev/nbd1 -N disk -b 4096
at activated
dd if=/dev/zero of=/dev/nbd1 bs=4k count=8 oflag=direct conv=fsync status=none
nbd-client -d /dev/nbd1
show() { systemctl show --property "$1" --value elasticdrive.service; }
until systemctl is-active --quiet elasticdrive.service; do sleep 0.1; done
echo "status: $(show StatusText)"
systemctl start elasticdrive-proxy@disk
nbd-client -unix /run/elasticdrive-proxy/disk/nbd.sock /dev/nbd0 -N disk -b 4096
mke2fs -q -t ext4 -b 4096 /dev/nbd0
mount /dev/nbd0 /mnt
at mounted
mkdir /tmp/sums
until [ -e /tmp/stop ]; do
  number=$((${number:-0} + 1))
  head -c $((number * 977 % 100000 + 1)) /dev/urandom >/tmp/new
  cp /tmp/new "/mnt/$number"
  sync "/mnt/$number" || touch /tmp/failed
  sha256sum </tmp/new >"/tmp/sums/$number"
done &
written() { ls /tmp/sums | wc -l; }
# The file system is alive: five more files are synced.
goes_on() {
  local wanted=$(($(written) + 5))
  until [ "$(written)" -ge "$wanted" ]; do sleep 0.1; done
  at "goes on $1"
}
# Ends the daemon by a signal and waits for the next one.
another_after() {
  local old
  old=$(show MainPID)
  kill "$1" "$old"
  until [ "$(show MainPID)" != "$old" ] && systemctl is-active --quiet elasticdrive.service; do
    sleep 0.1
  done
  goes_on "after $1"
}
goes_on "at first"
another_after -KILL
for signal in $SIGNALS; do another_after "$signal"; done
systemctl stop elasticdrive.service
goes_on "after a stop: the proxy has asked for the service"
touch /tmp/stop
wait
[ ! -e /tmp/failed ]
umount /mnt
echo 3 >/proc/sys/vm/drop_caches
mount -o ro /dev/nbd0 /mnt
for number in $(ls /tmp/sums); do
  [ "$(sha256sum <"/mnt/$number")" = "$(cat "/tmp/sums/$number")" ]
done
echo "whole $(written)"
umount /mnt
nbd-client -d /dev/nbd0
elasticdrive status --config /etc/elasticdrive/config.toml
systemctl stop elasticdrive-proxy@disk elasticdrive.socket elasticdrive.service
echo "result $(show Result), failed units: $(systemctl --failed --no-legend | wc -l)"
stat -c '%U %a %n' /var/lib/elasticdrive /var/lib/private/elasticdrive 2>/dev/null || true
systemd-analyze verify /etc/systemd/system/elasticdrive*.{service,socket} && echo "verified"
at "the end"
journalctl --no-pager --output short-monotonic -u elasticdrive -u elasticdrive-proxy@disk
