#!/usr/bin/env bash
# build.sh KERNEL_DIR OUT_DIR: makes OUT_DIR/vmlinuz and OUT_DIR/initrd.cpio, a throw-away Linux
# guest. Its programs are this host's own; its kernel is Debian's cloud kernel, downloaded and
# unpacked (never installed) into KERNEL_DIR, where it stays for the next time.
set -euo pipefail
kernel=$1 out=$2
export PATH=/usr/sbin:/usr/bin:/sbin:/bin

newest_package() {
  apt-cache depends linux-image-cloud-amd64 | awk '/Depends: linux-image/ {print $2; exit}'
}
download() {
  apt-get download -qq -o APT::Sandbox::User=root "$(newest_package)" >/dev/null
}
fetch_kernel() {
  local work
  work=$(mktemp -d "$kernel.XXXXXX")
  # Fresh lists when the old ones name a package that the mirror no longer has.
  (cd "$work" && { download || { apt-get update -qq && download; }; })
  dpkg -x "$work"/*.deb "$work/unpacked"
  depmod -b "$work/unpacked" "$(ls "$work/unpacked/lib/modules")"
  mv -T "$work/unpacked" "$kernel" 2>/dev/null || true # another run may have been first
  rm -rf "$work"
}
mkdir -p "$(dirname "$kernel")"
[ -d "$kernel/lib/modules" ] || fetch_kernel
version=$(ls "$kernel/lib/modules")

root=$(mktemp -d "$out/root.XXXXXX")
trap 'rm -rf "$root"' EXIT
mkdir -p "$root"/{bin,dev,proc,sys,run,tmp,mnt,root,etc,payload,lib/x86_64-linux-gnu,lib64,usr,var}
ln -s bin "$root/sbin"
ln -s ../bin ../lib "$root/usr/"
ln -s ../bin "$root/usr/sbin"
ln -s ../run "$root/var/run"

# The modules and what they need; Debian ships them uncompressed.
wanted="nbd raid1 ext4 xfs loop virtio_pci virtio_blk virtio_net virtio_console virtio_rng crc32c_generic"
for module in $wanted; do
  modprobe -d "$kernel" -S "$version" --show-depends "$module" 2>/dev/null || true
done | awk '$1 == "insmod" {print $2}' | sort -u | while read -r file; do
  name=${file#"$kernel"/}
  mkdir -p "$root/$(dirname "$name")"
  cp "$file" "$root/$name"
done
cp "$kernel/lib/modules/$version"/modules.{builtin,builtin.modinfo,order} "$root/lib/modules/$version/"
depmod -b "$root" "$version"

# busybox for the small things; the programs under test and what scripts rely on are the real ones.
cp /bin/busybox "$root/bin/busybox"
for applet in $(/bin/busybox --list | grep -vx busybox); do ln -s busybox "$root/bin/$applet"; done
programs="bash nbd-client mdadm mke2fs e2fsck mkfs.xfs xfs_repair kmod modprobe ip blkid blockdev mount umount losetup
  dd cmp cp touch ln stat sync sha256sum truncate date resize2fs xfs_growfs perl"
for program in $programs; do
  path=$(readlink -f "$(command -v "$program")")
  rm -f "$root/bin/$program"
  cp "$path" "$root/bin/$program"
  ldd "$path" 2>/dev/null | awk '{for (i = 1; i <= NF; i++) if ($i ~ /^\//) print $i}'
done | sort -u | while read -r library; do
  mkdir -p "$root$(dirname "$library")"
  [ -e "$root$library" ] || cp -L "$library" "$root$library"
done
cp -L /lib/x86_64-linux-gnu/libgcc_s.so.1 "$root/lib/x86_64-linux-gnu/"
cp /etc/mke2fs.conf "$root/etc/"
# Programs of the project run in the guest as they are.
cp "$(dirname "$0")/../../bin/nbd-resize.pl" "$root/bin/"
mkdir "$root/etc/perl"
cp /usr/lib/x86_64-linux-gnu/perl-base/{strict,warnings}.pm "$root/etc/perl/"
echo 'root:x:0:0:root:/root:/bin/sh' >"$root/etc/passwd"
echo 'root:x:0:' >"$root/etc/group"
ln -s /proc/self/mounts "$root/etc/mtab"

cat >"$root/init" <<'INIT'
#!/bin/sh
# Mounts, modules, network; then the payload, whose output and status go to the host by virtio port.
export PATH=/bin HOME=/root TERM=dumb
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
mount -t tmpfs run /run
ln -sf /proc/self/fd /dev/fd
modprobe -a virtio_pci virtio_net virtio_console virtio_rng
ip link set lo up
ip link set eth0 up
ip addr add 10.0.2.15/24 dev eth0
tries=0
while [ ! -e /dev/vport1p1 ] && [ ! -e /dev/vport0p1 ] && [ ! -e /dev/vport2p1 ] &&
  [ $tries -lt 250 ]; do
  tries=$((tries + 1))
  usleep 20000
done
exec 3>"$(ls /dev/vport*p1 | head -n 1)"
cd /root
bash /payload/script.sh >&3 2>&1 3>&- </dev/null
echo "@@status=$?@@" >&3
usleep 50000
poweroff -f
INIT
chmod +x "$root/init"

cp "$kernel/boot/vmlinuz-$version" "$out/vmlinuz"
(cd "$root" && find . | cpio -o -H newc -R 0:0 --quiet) >"$out/initrd.cpio"
