#!/usr/bin/env bash
# build-systemd.sh SMALL_DIR OUT_DIR: makes OUT_DIR/vmlinuz, OUT_DIR/initrd.cpio and
# OUT_DIR/disk, a Linux guest whose first process is Debian's systemd, on an ext4 root. Its files are
# this host's own, those that its packages list; Node and the product are in it as npm installs them.
# SMALL_DIR is what build.sh has made.
set -euo pipefail
small=$1 out=$2
export PATH=$PATH:/usr/sbin:/sbin
root=$out/root
mkdir -p "$root"/usr/{bin,sbin,lib,lib64} "$root"/var/{lib,log,tmp} \
  "$root"/{dev,proc,sys,run,tmp,root,etc,mnt,srv}
for folder in bin sbin lib lib64; do ln -s "usr/$folder" "$root/$folder"; done
ln -s ../run "$root/var/run"
chmod 1777 "$root/tmp" "$root/var/tmp"

# What is there, then the libraries that it needs, then what all that are links to.
programs="bash sh cat chmod chown cp cut dash date dd echo env grep head id install kill kmod ln ls
  mawk mke2fs mkdir modprobe mount mv nbd-client readlink rm sed seq setpriv sha256sum sleep sort stat
  sync tail timeout touch tr true umount uname wc"
packages() {
  dpkg -L systemd libsystemd-shared
  dpkg -L libnss-systemd || true # it is recommended, not needed
}
{
  packages | grep -vE '^/usr/share/(doc|man|locale)|^/etc/(init|pam)\.d'
  for program in $programs; do type -P "$program"; done
  ls /lib/x86_64-linux-gnu/lib{nss_files.so.2,gcc_s.so.1} /lib64/ld-linux-x86-64.so.2 /etc/mke2fs.conf
} | while IFS= read -r file; do
  # A name with an escape in it is that of a unit that nobody needs here.
  [[ $file == *\\* || -d $file || ! -e $file ]] || echo "$file"
done >"$out/files"
{ ldd node_modules/node/bin/node && xargs -a "$out/files" ldd 2>/dev/null || true; } |
  awk '{for (i = 1; i <= NF; i++) if ($i ~ /^\/.*[^:]$/) print $i}' | sort -u >"$out/libraries"
cat "$out/libraries" >>"$out/files"
xargs -a "$out/files" readlink -f >"$out/targets"
cat "$out/files" "$out/targets" | sed -E 's#^/(bin|sbin|lib|lib64)/#/usr/\1/#; s#^/##' | sort -u |
  tar -C / -c -T - | tar -C "$root" -x
ln -s mawk "$root/usr/bin/awk"

# The product as npm installs it, and the Node that runs it.
product=$root/usr/lib/node_modules/elasticdrive
mkdir -p "$product/node_modules"
cp "$(readlink -f node_modules/node/bin/node)" "$root/usr/bin/node"
npm ls --omit=dev --all --parseable | tail -n +2 | sed "s#^$PWD/##" | tar -c -T - |
  tar -C "$product" -x
cp -r bin package.json "$product"
node_modules/.bin/tsc -p tsconfig.build.json --outDir "$product/dist"
ln -s ../lib/node_modules/elasticdrive/bin/elasticdrive.js "$root/usr/bin/elasticdrive"

# A machine that has just been installed.
cat >"$root/etc/passwd" <<'PASSWD'
root:x:0:0:root:/root:/bin/bash
disks:x:990:990::/srv/disks:/usr/sbin/nologin
nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin
PASSWD
cat >"$root/etc/group" <<'GROUP'
root:x:0:
adm:x:4:
tty:x:5:
disk:x:6:
kmem:x:15:
utmp:x:43:
systemd-journal:x:999:
disks:x:990:
nogroup:x:65534:
GROUP
install -d -o 990 -g 990 -m 750 "$root/srv/disks"
printf 'passwd: files systemd\ngroup: files systemd\nshadow: files\n' >"$root/etc/nsswitch.conf"
echo "/dev/vda / ext4 defaults 0 0" >"$root/etc/fstab"
echo guest >"$root/etc/hostname"
echo 5f4e9c0d7a8b4c1e9f2a3b4c5d6e7f80 >"$root/etc/machine-id"
ln -s /proc/self/mounts "$root/etc/mtab"
mkdir -p "$root/etc/systemd/system/multi-user.target.wants"
ln -sf multi-user.target "$root/usr/lib/systemd/system/default.target"
# Nobody logs in, no hardware comes or goes.
for unit in getty.target systemd-logind.service systemd-firstboot.service systemd-repart.service \
  systemd-update-utmp.service systemd-pcrphase.service systemd-pcrphase-sysinit.service; do
  ln -s /dev/null "$root/etc/systemd/system/$unit"
done
cat >"$root/etc/systemd/system/script.service" <<'UNIT'
[Unit]
Description=What the host wants done
After=sysinit.target
[Service]
Type=oneshot
TimeoutStartSec=infinity
ExecStart=/bin/bash /script
UNIT
ln -s ../script.service "$root/etc/systemd/system/multi-user.target.wants/script.service"
cat >"$root/script" <<'SCRIPT'
# Runs the payload, whose output and status go to the host by virtio port.
exec 3>"$(ls /dev/vport*p1 | head -n 1)"
cd /root
bash /payload/script.sh >&3 2>&1 3>&- </dev/null
echo "@@status=$?@@" >&3
sleep 0.05
systemctl poweroff --force --force
SCRIPT

# The small guest's programs and modules find the root; the modules are the root's, too.
early=$out/early
mkdir -p "$early"
(cd "$early" && cpio -i --quiet --no-absolute-filenames <"$small/initrd.cpio")
cp -r "$early/lib/modules" "$root/usr/lib/modules"
cat >"$early/init" <<'INIT'
#!/bin/sh
# Finds the root, puts there what belongs to this run, and starts what the root would start.
export PATH=/bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
modprobe -a virtio_pci virtio_blk virtio_net virtio_console virtio_rng ext4
ip link set lo up
ip link set eth0 up
ip addr add 10.0.2.15/24 dev eth0
while [ ! -e /dev/vda ]; do usleep 20000; done
mount -t ext4 /dev/vda /root
cp -r /payload /root
mount --move /dev /root/dev
mount --move /proc /root/proc
mount --move /sys /root/sys
exec switch_root /root /lib/systemd/systemd
INIT
chmod +x "$early/init"
cp "$small/vmlinuz" "$out/vmlinuz"
(cd "$early" && find . | cpio -o -H newc -R 0:0 --quiet) >"$out/initrd.cpio"
mke2fs -q -t ext4 -d "$root" "$out/disk" 1G
rm -rf "$root" "$early"
