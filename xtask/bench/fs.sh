# Reads 64 MiB of a share, writes 64 MiB, creates 400 files of two bytes and looks at 400 others, by the guest's clock. The
# share is a directory in memory and new for every guest. The floor is the same program on that directory.

data=$work/data
mkdir -p "$data/old"
dd if=/dev/zero bs=1M count=64 status=none | tr '\0' x >"$data/read"
for ((i = 0; i < 400; i++)); do echo x >"$data/old/file$i"; done

fs() {
  rm -rf "$data/new"
  mkdir "$data/new"
  vm "$1" -v "data=$data" -- /tools/fs /tmp data
  samples_of "$1"
}
each_round fs

for ((round = 0; round < rounds; round++)); do
  rm -rf "$data/new"
  mkdir "$data/new"
  ./tools/fs "$data" >log || fail "floor"
  samples_of floor
done
