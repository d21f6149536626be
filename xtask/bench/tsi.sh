# TCP from a guest to a server of the host, over TSI: 64 MiB each way, 100 connections one after another, 1,000 one-byte
# round trips. The guest's clock. Without a VM: the same program on the rig's machine.
port=7777
./tools/sockets serve $port >/dev/null &
server=$!

floor() {
  ./tools/sockets run $port >log 2>&1 || fail "without a guest: exit status $?"
  samples_of floor
}

sockets() {
  vm "$1" -- /tools/sockets run $port
  samples_of "$1"
}

floor >/dev/null
for ((round = 0; round < rounds; round++)); do floor; done
each_round sockets
kill $server
