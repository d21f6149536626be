# Inside the rig: what every bench's script starts from.
# Arguments: the staging directory, the number of counted rounds, and the names of the libraries (lib/NAME.so in staging).
# A script reports with `sample`; what else it prints to stdout is dropped.
set -u
staging=$1 rounds=$2
shift 2
libraries=("$@")

# What is timed comes from memory, not from the shared file system. The client is linked to its interpreter here.
work=/run/bench
cp -a "$staging" "$work" || exit
cd "$work" || exit

# fail WORD...: ends the bench and shows what the last guest said.
fail() {
  echo "bench: $*" >&2
  while read -r line; do echo "  $line" >&2; done <log
  exit 1
}

# sample CASE LIBRARY NUMBER UNIT: reports a measurement. LIBRARY may be `floor`: the same work without a VM. UNIT: us, KiB.
sample() { echo "sample $*"; }

# microseconds: sets `now`. Reading the clock starts no process.
microseconds() { now=${EPOCHREALTIME/./}; }

# exec_vm LIBRARY [CLIENT-OPTION...] -- PROGRAM [ARGUMENT...]: becomes a guest with 256 MiB, whose output goes to `log`.
exec_vm() {
  local library=$work/lib/$1.so options=()
  shift
  while [ "$1" != -- ]; do
    options+=("$1")
    shift
  done
  shift
  LD_LIBRARY_PATH=$work/lib exec ./client "${options[@]}" "$library" 256 "$work/root" "$@" </dev/null >log 2>&1
}

# vm LIBRARY [CLIENT-OPTION...] -- PROGRAM [ARGUMENT...]: runs a guest to its end, which must be exit status 0.
vm() {
  (exec_vm "$@") || fail "guest with $1: exit status $?"
}

# samples_of LIBRARY: reports the lines `sample CASE NUMBER UNIT` that the last guest printed.
samples_of() {
  local word case number unit
  while read -r word case number unit; do
    [ "$word" = sample ] && sample "$case" "$1" "$number" "${unit%$'\r'}"
  done <log
}

# each_round FUNCTION: calls it with each library in turn, so many times as asked for. A first round fills caches and
# reports nothing.
each_round() {
  local round library
  for ((round = 0; round <= rounds; round++)); do
    for library in "${libraries[@]}"; do
      if [ "$round" = 0 ]; then
        "$1" "$library" >/dev/null
      else
        "$1" "$library"
      fi
    done
  done
}
