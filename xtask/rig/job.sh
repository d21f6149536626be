# Second and last program of the rig's emulated machine: runs the job, tells its exit status, and turns the machine off.
# The job's stdout and stderr are pipes, as they often are, and leave through one console each.
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root TERM=dumb
stty -F /dev/hvc0 raw -echo
stty -F /dev/hvc1 raw -echo
mkfifo /run/rig-stdout /run/rig-stderr /run/rig-held
cat </run/rig-stdout >/dev/hvc0 &
cat </run/rig-stderr >/dev/hvc1 &

# With the deterministic clock there is one CPU, and nothing to be held for it.
if [ "$(nproc)" -gt 1 ]; then
  setsid /run/hold-kvm >/run/rig-held &
  cat /run/rig-held # until it is ready
fi

echo >/run/rig/.started
setsid /bin/bash /run/rig/.job </dev/null >/run/rig-stdout 2>/run/rig-stderr
status=$?

# What the job left behind would keep the pipes open.
killall5 -9
wait
echo "$status" >/run/rig/.status
reboot -f
