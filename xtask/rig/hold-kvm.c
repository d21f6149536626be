/* Keeps two idle virtual machines, with and without interrupt controller, as long as it lives.
 *
 * KVM patches its own code when the first machine of a kind appears and when the last one goes. QEMU 7.2, emulating more
 * than one CPU, may run the old code on another CPU after that, and the kernel dies. With these two machines there is never
 * a first nor a last, which makes that rare.
 */
#include <fcntl.h>
#include <linux/kvm.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <unistd.h>

static int check(int result, const char *what)
{
    if (result < 0) {
        perror(what);
        _exit(1);
    }
    return result;
}

int main(void)
{
    int kvm = check(open("/dev/kvm", O_RDWR | O_CLOEXEC), "/dev/kvm");
    for (int with_irqchip = 0; with_irqchip < 2; with_irqchip++) {
        int vm = check(ioctl(kvm, KVM_CREATE_VM, 0), "KVM_CREATE_VM");
        if (with_irqchip)
            check(ioctl(vm, KVM_CREATE_IRQCHIP, 0), "KVM_CREATE_IRQCHIP");
        check(ioctl(vm, KVM_CREATE_VCPU, 0), "KVM_CREATE_VCPU");
    }
    close(1); /* tells that we are ready */
    for (;;)
        pause();
}
