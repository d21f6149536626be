# Inside the rig: boots a guest that exits at once, with each library in turn, and times it from exec to exit; then
# lets one guest per library sit idle and keeps what the kernel says about the memory of its process.
# Arguments: the staging directory, the number of rounds, and the names of the libraries (lib/NAME.so in staging).
# Prints one line `boot NAME MICROSECONDS` per run; leaves /run/rig/NAME.smaps.
set -u
staging=$1 rounds=$2
shift 2

# What is timed comes from memory, not from the shared file system. The client is linked to its interpreter here.
work=/run/bench
cp -a "$staging" "$work" || exit
cd "$work" || exit

fail() {
  echo "bench: $*" >&2
  while read -r line; do echo "  $line" >&2; done <log
  exit 1
}

client() { # NAME PROGRAM...
  LD_LIBRARY_PATH=$work/lib exec ./client "$work/lib/$1.so" 256 "$work/root" "${@:2}" </dev/null >log 2>&1
}

for ((round = 0; round <= rounds; round++)); do
  for name; do
    before=$EPOCHREALTIME
    (client "$name" /bin/true)
    status=$?
    after=$EPOCHREALTIME
    [ "$status" = 0 ] || fail "boot with $name: exit status $status"
    # The first round fills caches.
    [ "$round" = 0 ] || echo "boot $name $((${after/./} - ${before/./}))"
  done
done

for name; do
  client "$name" /bin/sh -c 'echo up; exec sleep 1000' &
  for ((tries = 0; ; tries++)); do
    case $(<log) in *up*) break ;; esac
    [ "$tries" -lt 300 ] || fail "idle guest with $name: not up"
    sleep 0.1
  done
  sleep 1
  cp "/proc/$!/smaps" "/run/rig/$name.smaps"
  kill -9 $!
  wait $! 2>/dev/null || true # bash has something to say about a killed job
done
