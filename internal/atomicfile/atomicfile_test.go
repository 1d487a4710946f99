package atomicfile

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

func TestWriteReplacesWholeFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "report.json")
	for _, text := range []string{"first, a long one", "second"} {
		err := Write(path, 0o640, func(f *os.File) error { _, err := f.WriteString(text); return err })
		if err != nil {
			t.Fatal(err)
		}
		if got, _ := os.ReadFile(path); string(got) != text {
			t.Errorf("file holds %q, want %q", got, text)
		}
	}
	if info, _ := os.Stat(path); info.Mode().Perm() != 0o640 {
		t.Errorf("mode is %v", info.Mode())
	}
}

func TestFailedWriteLeavesOldFileAndNothingElse(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "f")
	if err := os.WriteFile(path, []byte("old"), 0o644); err != nil {
		t.Fatal(err)
	}
	broken := errors.New("broken")
	err := Write(path, 0o644, func(f *os.File) error { f.WriteString("half"); return broken })
	if !errors.Is(err, broken) {
		t.Errorf("error is %v", err)
	}
	if got, _ := os.ReadFile(path); string(got) != "old" {
		t.Errorf("file holds %q", got)
	}
	if entries, _ := os.ReadDir(dir); len(entries) != 1 {
		t.Errorf("left over: %v", entries)
	}
}

// TestUmask is that of any new file, and one that nobody may read can be written all the same.
func TestUmask(t *testing.T) {
	defer syscall.Umask(syscall.Umask(0o077))
	for perm, want := range map[os.FileMode]os.FileMode{0o644: 0o600, 0o755: 0o700, 0: 0} {
		path := filepath.Join(t.TempDir(), "f")
		if err := Write(path, perm, func(f *os.File) error { _, err := f.WriteString("text"); return err }); err != nil {
			t.Fatal(err)
		}
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != want || info.Size() != 4 {
			t.Errorf("%v: %v, %v", perm, info.Mode(), err)
		}
	}
}
