# Runs Rust test programs that need a KVM, on a machine that has one, the rig or another.
# Arguments: a directory for working copies, libkrunfw, the root directory, the stock kernel, the number of threads, filters and `--`; then, for
# each program, the directory to run it in and the program. The last line it prints for each is `xtask-ended STATUS`.
set -u
work=$1 firmware=$2 root=$3 stock=$4 threads=$5
shift 5
filters=()
while [ "$1" != -- ]; do
  filters+=("$1")
  shift
done
shift

# From memory: in the rig every file system access would go to the host.
mkdir -p "$work" && cp "$firmware" "$work/libkrunfw.so.5" && cp -a "$root" "$work/rootfs" && cp -a "$stock" "$work/stock" || exit
export PURLIN_FW=$work/libkrunfw.so.5 PURLIN_ROOTFS=$work/rootfs PURLIN_STOCK=$work/stock LD_LIBRARY_PATH=$work

result=0
while [ $# -gt 0 ]; do
  cp "$2" "$work/program" || exit
  (cd "$1" && exec "$work/program" --ignored --show-output --color never --test-threads "$threads" "${filters[@]}") </dev/null
  status=$?
  [ "$status" = 0 ] || result=1
  echo "xtask-ended $status"
  shift 2
done
exit "$result"
