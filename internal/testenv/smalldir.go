package testenv

import (
	"runtime"
	"testing"

	"golang.org/x/sys/unix"
)

// SmallDir makes a directory that has room for as little as size says, such as "76m" (tmpfs(5)). It is there for the test's own thread only, in a mount namespace of
// that.
func SmallDir(t testing.TB, size string) string {
	t.Helper()
	dir := t.TempDir()
	runtime.LockOSThread() // never unlocked: the thread ends with the test
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		Missing(t, "a mount namespace: %v", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("none", dir, "tmpfs", 0, "size="+size); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return dir
}
