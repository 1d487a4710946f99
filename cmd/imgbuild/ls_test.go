package main

import (
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/imgbuild/imgbuild/internal/testenv"
	"github.com/imgbuild/imgbuild/layers"
)

// TestModeText compares with what ls shows, for all permissions of three types.
func TestModeText(t *testing.T) {
	dir := t.TempDir()
	for kind, name := range map[uint32]string{layers.TypeRegular: dir + "/file", layers.TypeDir: dir + "/dir", layers.TypeFIFO: dir + "/pipe"} {
		var err error
		switch kind {
		case layers.TypeRegular:
			err = os.WriteFile(name, nil, 0o600)
		case layers.TypeDir:
			err = os.Mkdir(name, 0o700)
		default:
			err = unix.Mkfifo(name, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
		for _, mode := range []uint32{0, 0o755, 0o640, 0o4755, 0o4644, 0o2755, 0o2745, 0o1777, 0o1776, 0o7777, 0o7000, 0o111} {
			if err := unix.Chmod(name, mode); err != nil {
				t.Fatal(err)
			}
			want, _, _ := strings.Cut(testenv.Run(t, "stat", "--format=%A", name), "\n")
			if got := modeText(kind | mode); got != want {
				t.Errorf("%o is %s, not %s", mode, got, want)
			}
		}
		if err := unix.Chmod(name, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	for mode, want := range map[uint32]string{layers.TypeSymlink | 0o777: "lrwxrwxrwx", layers.TypeChar | 0o620: "crw--w----", layers.TypeBlock | 0o660: "brw-rw----"} {
		if got := modeText(mode); got != want {
			t.Errorf("%o is %s", mode, got)
		}
	}
}
