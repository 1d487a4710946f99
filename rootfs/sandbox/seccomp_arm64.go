package sandbox

import "golang.org/x/sys/unix"

// syscallTables covers 64-bit programs and the 32-bit ones that the same kernel may run (arch/arm/tools/syscall.tbl).
func syscallTables() []syscallTable {
	return []syscallTable{
		{
			arch: unix.AUDIT_ARCH_AARCH64, fsync: unix.SYS_FSYNC, fdatasync: unix.SYS_FDATASYNC, sync: unix.SYS_SYNC, syncfs: unix.SYS_SYNCFS,
			syncRange: unix.SYS_SYNC_FILE_RANGE, msync: unix.SYS_MSYNC,
		},
		{arch: unix.AUDIT_ARCH_ARM, fsync: 118, fdatasync: 148, sync: 36, syncfs: 373, syncRange: 341, msync: 144},
	}
}
