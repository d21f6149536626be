# Boots a guest that exits at once and times it from exec to exit; then lets one guest per library sit idle and keeps what
# the kernel says about the memory of its process, as /run/rig/LIBRARY.smaps.

boot() {
  microseconds
  local before=$now
  vm "$1" -- /bin/true
  microseconds
  sample boot "$1" $((now - before)) us
}
each_round boot

for library in "${libraries[@]}"; do
  : >log
  exec_vm "$library" -- /bin/sh -c 'echo up; exec sleep 1000' &
  for ((tries = 0; ; tries++)); do
    case $(<log) in *up*) break ;; esac
    [ "$tries" -lt 300 ] || fail "idle guest with $library: not up"
    sleep 0.1
  done
  sleep 1
  cp "/proc/$!/smaps" "/run/rig/$library.smaps"
  kill -9 $!
  wait $! 2>/dev/null || true # bash has something to say about a killed job
done
