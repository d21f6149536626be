# Boots Debian's cloud kernel from its package until its init runs, in our library (a client of its C API) and in QEMU's
# microvm machine, both on the same KVM with 1 vCPU and 256 MiB. Init says that it runs on the serial line, and powers off.

words='console=ttyS0 quiet panic=-1 purlin.bench'

qemu() {
  lib/ld-linux-x86-64.so.2 --library-path lib lib/qemu.so -L firmware -M microvm -enable-kvm -cpu host -m 256 -smp 1 \
    -nodefaults -no-user-config -no-reboot -display none -serial stdio \
    -kernel stock/vmlinuz -initrd stock/initramfs.cpio -append "$words"
}

client() {
  LD_LIBRARY_PATH=$work/lib exec ./client -k stock/vmlinuz -i stock/initramfs.cpio -w "$words" "$work/lib/$1.so" 256
}

stock() {
  local line before
  microseconds
  before=$now
  exec 3< <(case $1 in qemu) qemu ;; *) client "$1" ;; esac </dev/null 2>log)
  while read -r line <&3; do
    echo "$line" >>log
    case $line in *init-runs*) break ;; esac
  done
  microseconds
  case $line in *init-runs*) ;; *) fail "$1: init does not run" ;; esac
  sample boot-to-init "$1" $((now - before)) us
  # To its end, which must be one.
  while read -r line <&3; do :; done
  exec 3<&-
}
each_round stock
