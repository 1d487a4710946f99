package lockeddir

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

func TestRemoveStale(t *testing.T) {
	parent := t.TempDir()
	alive, err := Make(parent, ".mine-")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{".mine-dead/a/b", "other"} {
		if err := os.MkdirAll(filepath.Join(parent, name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(parent, ".mine-file"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := RemoveStale(parent, ".mine-"); err != nil {
		t.Fatal(err)
	}
	for name, there := range map[string]bool{filepath.Base(alive.Name()): true, ".mine-dead": false, "other": true, ".mine-file": true} {
		if _, err := os.Lstat(filepath.Join(parent, name)); errors.Is(err, fs.ErrNotExist) == there {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := alive.Remove(); err != nil {
		t.Error(err)
	}
	if _, err := os.Lstat(alive.Name()); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("removed, it is there: %v", err)
	}
}

// TestSideBySide makes directories while others look for stale ones: nobody loses a fresh one.
func TestSideBySide(t *testing.T) {
	parent := t.TempDir()
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for range 200 {
				if err := RemoveStale(parent, "x"); err != nil {
					t.Error(err)
				}
				d, err := Make(parent, "x")
				if err != nil {
					t.Error(err)
					return
				}
				if err := os.WriteFile(filepath.Join(d.Name(), "file"), nil, 0o644); err != nil {
					t.Error(err)
				}
				if err := d.Remove(); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	if left, err := os.ReadDir(parent); err != nil || len(left) > 0 {
		t.Errorf("left: %v, %v", left, err)
	}
}

// TestUnlockedForOthersAtOnce unlocks while programs are being started, which inherit what is open for a moment.
func TestUnlockedForOthersAtOnce(t *testing.T) {
	name := filepath.Join(t.TempDir(), "lock")
	if err := os.WriteFile(name, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	stop := make(chan struct{})
	var starting sync.WaitGroup
	for range 4 {
		starting.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
					_ = exec.Command("/bin/true").Run() // only that it is started counts
				}
			}
		})
	}
	for range 2000 {
		f, err := os.Open(name)
		if err != nil {
			t.Fatal(err)
		}
		if err := TryLock(f); errors.Is(err, unix.EWOULDBLOCK) {
			t.Error("what was unlocked is locked")
		} else if err != nil {
			t.Error(err)
		}
		Unlock(f)
	}
	close(stop)
	starting.Wait()
}
