#!/bin/busybox sh
# First program of the rig's emulated machine (L1). It puts together a root directory, the developer's machine shared
# over 9p and read-only under an overlay in memory, and hands over to /run/rig-job there. All commands are busybox's own;
# the shell finds them once there is /proc.
/bin/busybox mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev

# KVM keeps the TSC frequency of the moment it is loaded. The first measurement of a busy host may be wrong, and the second comes
# about a second later; a vCPU that is made with the first cannot have a deadline timer.
for tenth in $(seq 300); do
  [ "$(cat /sys/devices/system/clocksource/clocksource0/current_clocksource)" = tsc ] && break
  [ "$tenth" = 300 ] && echo "rig: the TSC's frequency is not known after 30 s"
  sleep 0.1
done

for module in /eager/*; do
  insmod "$module" || echo "rig: cannot load $module"
done

share=trans=virtio,version=9p2000.L,msize=512000
mount -t 9p -o "ro,$share,cache=loose" root /lower || echo "rig: cannot mount the root share"
mount -t tmpfs tmpfs /upper
mkdir /upper/files /upper/work
mount -t overlay -o lowerdir=/lower,upperdir=/upper/files,workdir=/upper/work overlay /root

cd /root || exit
mount -t proc proc proc
mount -t sysfs sysfs sys
mount -t debugfs debugfs sys/kernel/debug
mount -t devtmpfs dev dev
mkdir -p dev/pts dev/shm dev/net
ln -s /proc/self/fd dev/fd
mount -t devpts devpts dev/pts
mount -t tmpfs shm dev/shm
mount -t tmpfs run run
mkdir run/rig
mount -t 9p -o "rw,$share" out run/rig || echo "rig: cannot mount the output share"

# Modules that only some jobs need: the kernel asks for them through this program.
mknod dev/net/tun c 10 200
mknod dev/loop-control c 10 237
cp /bin/busybox /bin/hold-kvm run/
cp -r /lazy run/modules
printf '#!/run/busybox sh\nexec /run/busybox insmod "/run/modules/$3"\n' >run/modprobe
chmod +x run/modprobe
echo /run/modprobe >/proc/sys/kernel/modprobe

# A network that leads nowhere, for programs that insist on a default route.
ip link set lo up
ip link set eth0 up && ip addr add 10.0.2.15/24 dev eth0 && ip route add default via 10.0.2.2

cp /job.sh run/rig-job
cd /
exec switch_root /root /run/busybox sh /run/rig-job
