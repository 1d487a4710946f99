package cpio

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/imgbuild/imgbuild/internal/testenv"
)

func TestGNUReadsIt(t *testing.T) {
	program := testenv.NeedProgram(t, "cpio")
	var archive bytes.Buffer
	w := NewWriter(&archive)
	for _, e := range []struct {
		Header
		data string
	}{
		{Header{Name: "dir", Ino: 1, Mode: unix.S_IFDIR | 0o750, Links: 2, MTime: 1600000000}, ""},
		{Header{Name: "dir/one", Ino: 2, Mode: unix.S_IFREG | 0o640, Links: 2, MTime: 1600000001}, ""},
		{Header{Name: "dir/two", Ino: 2, Mode: unix.S_IFREG | 0o640, Links: 2, MTime: 1600000001}, "five!"},
		{Header{Name: "a name\nof two lines", Ino: 3, Mode: unix.S_IFREG | 0o600}, "x"},
		{Header{Name: "link", Ino: 4, Mode: unix.S_IFLNK | 0o777}, "dir/one"},
	} {
		e.Size = int64(len(e.data))
		if err := w.WriteHeader(e.Header); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(e.data)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	cmd := exec.Command(program, "-idm", "--quiet", "--no-preserve-owner", "-D", dir)
	cmd.Stdin = &archive
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("cpio: %v\n%s", err, out)
	}
	one, err := os.Stat(filepath.Join(dir, "dir/one"))
	if err != nil {
		t.Fatal(err)
	}
	two, err := os.Stat(filepath.Join(dir, "dir/two"))
	if err != nil || !os.SameFile(one, two) || one.Size() != 5 || one.Mode().Perm() != 0o640 || one.ModTime().Unix() != 1600000001 {
		t.Errorf("the hard links are %+v and %+v (%v)", one, two, err)
	}
	if target, err := os.Readlink(filepath.Join(dir, "link")); err != nil || target != "dir/one" {
		t.Errorf("the symbolic link says %q (%v)", target, err)
	}
	if data, err := os.ReadFile(filepath.Join(dir, "a name\nof two lines")); err != nil || string(data) != "x" {
		t.Errorf("the file holds %q (%v)", data, err)
	}
}

func TestWhatDoesNotFitIsRefused(t *testing.T) {
	for name, write := range map[string]func(*Writer) error{
		"4 GiB":   func(w *Writer) error { return w.WriteHeader(Header{Name: "x", Size: 1 << 32}) },
		"no name": func(w *Writer) error { return w.WriteHeader(Header{}) },
		"more content": func(w *Writer) error {
			_ = w.WriteHeader(Header{Name: "x", Size: 1})
			_, err := w.Write([]byte("xx"))
			return err
		},
		"missing": func(w *Writer) error {
			_ = w.WriteHeader(Header{Name: "x", Size: 1})
			return w.Close()
		},
	} {
		if err := write(NewWriter(&bytes.Buffer{})); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: error is %v", name, err)
		}
	}
}
