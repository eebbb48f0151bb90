# Writers that make, sync, rename and delete files until the power goes. Each line "done W N" says that
# file N of writer W, and its name, are on the disk; of each writer the last 12 files are kept.
modprobe -a nbd "$FILE_SYSTEM"
nbd-client -N disk 10.0.2.2 "$PORT" /dev/nbd0 -b 4096 >&2
mkdir /disk
mount -t "$FILE_SYSTEM" -o discard /dev/nbd0 /disk
writer() {
  mkdir -p "/disk/$1"
  number=0
  while :; do
    number=$((number + 1))
    { yes "$1 $number" || true; } 2>/dev/null | head -c $((number * 7919 % 90000 + 1)) >"/disk/$1/new"
    sync "/disk/$1/new"
    mv "/disk/$1/new" "/disk/$1/$number"
    sync "/disk/$1"
    echo "done $1 $number"
    [ "$number" -le 12 ] || rm "/disk/$1/$((number - 12))"
  done
}
for name in $(seq "$WRITERS"); do writer "$name" & done
wait
