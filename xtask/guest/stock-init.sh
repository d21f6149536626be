#!/bin/sh
# PID 1 of a stock kernel's guest: the modules of its package, and a shell on the serial line.
# With `purlin.bench` among the kernel's words it says that it runs, and powers off.
mount -t devtmpfs dev /dev
exec </dev/ttyS0 >/dev/ttyS0 2>&1
mount -t proc proc /proc
case " $(cat /proc/cmdline) " in
*" purlin.bench "*)
  echo init-runs
  exec poweroff -f
  ;;
esac
mount -t sysfs sys /sys
for module in /modules/*; do
  insmod "$module"
done
export PS1= PATH=/bin
echo shell-ready
exec setsid -c sh
