//! Names the kernel takes for itself.
//!
//! A `name=value` whose name is a parameter of a built-in part of the kernel never reaches PID 1, and does
//! something else instead: `mem=1G` shrinks the machine, `init=` replaces PID 1, `panic=0` makes a panic hang
//! for ever. Which names those are depends on the kernel's configuration; this list has those of Linux
//! `Documentation/admin-guide/kernel-parameters.txt` that x86 microVM kernels have built in and that do not
//! contain a dot. Parameter names are lower case, so the upper-case names that environment variables usually
//! have are safe by nature.

/// Kernel parameter names, sorted, with `_` for `-`.
#[rustfmt::skip]
pub const RESERVED: &[&str] = &[
    "BOOT_IMAGE", "acpi", "acpi_rsdp", "add_efi_memmap", "amd_iommu", "apic", "audit",
    "audit_backlog_limit", "boot_delay", "bootconfig", "cgroup_disable", "cgroup_enable", "cgroup_no_v1",
    "clearcpuid", "clock", "clocksource", "cma", "console", "console_msg_format", "consoleblank",
    "coredump_filter", "cpu0_hotplug", "cpuidle_sysfs_switch", "crash_kexec_post_notifiers", "crashkernel",
    "debug", "debug_boot_weak_hash", "debug_guardpage_minorder", "debug_locks_verbose", "debug_objects",
    "debug_pagealloc", "default_hugepagesz", "dhash_entries", "disable_mtrr_trim", "dyndbg",
    "early_page_ext", "earlycon", "earlyprintk", "edd", "efi", "elevator", "elfcorehdr", "ether", "fips",
    "fw_devlink", "gbpages", "hardened_usercopy", "hardlockup_all_cpu_backtrace", "hashdist",
    "hest_disable", "highres", "hlt", "hpet", "hugepages", "hugepagesz", "hugetlb_cma",
    "hugetlb_free_vmemmap", "hung_task_panic", "ignore_loglevel", "ihash_entries", "init", "init_on_alloc",
    "init_on_free", "initcall_blacklist", "initcall_debug", "initramfs_async", "initramfs_options",
    "initrd", "initrdmem", "intel_iommu", "intel_pstate", "io_delay", "iommu", "ip", "irqaffinity",
    "irqpoll", "isolcpus", "kasan", "kaslr", "keepinitrd", "kernelcore", "kgdbwait", "kpti",
    "kstack_guard_gap", "l1tf", "lapic", "load_ramdisk", "lockdown", "log_buf_len", "loglevel", "lpj",
    "lsm", "max_addr", "maxcpus", "mce", "mds", "mem", "mem_encrypt", "memblock", "memhp_default_state",
    "memmap", "memory_corruption_check", "memtest", "min_addr", "mitigations", "mminit_loglevel",
    "mmio_stale_data", "module_blacklist", "movablecore", "mphash_entries", "mtrr_chunk_size", "netdev",
    "nfsroot", "nmi_watchdog", "no387", "no_hash_pointers", "no_kvmapf", "noapic", "noapictimer", "noexec",
    "nohz", "nohz_full", "noinitrd", "noirqdebug", "nokaslr", "nolapic", "nomodule", "nopcid", "nopku",
    "nopti", "noreplace_smp", "noresume", "nosmp", "nosmt", "nosoftlockup", "notsc", "nowatchdog",
    "nr_cpus", "numa", "numa_balancing", "numa_zonelist_order", "oops", "page_owner", "page_poison",
    "panic", "panic_on_taint", "panic_on_warn", "panic_print", "panic_sys_info", "parport", "pause_on_oops",
    "pci", "pcie_aspm", "percpu_alloc", "possible_cpus", "preempt", "print_fatal_signals", "printk_time",
    "profile", "prompt_ramdisk", "psi", "pti", "quiet", "ramdisk_size", "ramdisk_start",
    "randomize_kstack_offset", "rcu_nocbs", "rdinit", "reboot", "relax_domain_level", "reserve",
    "reserve_mem", "resume", "resume_offset", "resumedelay", "resumewait", "retain_initrd", "retbleed",
    "ro", "rodata", "root", "rootdelay", "rootflags", "rootfstype", "rootwait", "rw", "sched_verbose",
    "schedstats", "security", "selinux", "setcpuid", "shuffle", "skew_tick", "slab_max_order", "slab_merge",
    "slab_nomerge", "slram", "slub_debug", "slub_max_order", "slub_merge", "slub_min_objects",
    "slub_min_order", "slub_nomerge", "softlockup_all_cpu_backtrace", "softlockup_panic",
    "spec_store_bypass_disable", "spectre_bhi", "spectre_v2", "spectre_v2_user", "split_lock_detect",
    "srbds", "stack_depot_disable", "stack_guard_gap", "stacktrace", "swapaccount", "swiotlb",
    "sysrq_always_enabled", "thash_entries", "threadirqs", "trace_buf_size", "trace_clock", "trace_event",
    "trace_options", "transparent_hugepage", "tsc", "tsi_hijack", "tsi_hijack_unix", "tsx",
    "tsx_async_abort", "uhash_entries", "unknown_nmi_panic", "unwind_debug", "vdso", "vga", "video",
    "vmalloc", "vsyscall", "watchdog_thresh", "x2apic_phys",
];

/// Whether the kernel would take an environment entry of this name for itself.
///
/// `-` and `_` are the same in parameter names. Everything that begins with `kexec` is a boot loader's.
pub fn is_reserved(name: &str) -> bool {
    let name = name.replace('-', "_");
    name.starts_with("kexec") || RESERVED.contains(&name.as_str())
}
