package helperkernel

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/imgbuild/imgbuild/internal/testenv"
)

// kinds are the ways that work on this machine. A root tree with a kernel for QEMU is this machine's own one, or the directory that
// IMGBUILD_TEST_KERNEL_ROOT names.
func kinds(t *testing.T) map[Kind]Spec {
	t.Helper()
	all := map[Kind]Spec{}
	if _, err := findUML(); err == nil {
		all[UML] = Spec{Kind: UML}
	}
	root := "/"
	if dir := os.Getenv("IMGBUILD_TEST_KERNEL_ROOT"); dir != "" {
		root = dir
	}
	kernels := KernelsOf(os.DirFS(root))
	if _, err := findQEMU(kernels); err == nil {
		all[QEMU] = Spec{Kind: QEMU, Kernels: kernels}
	}
	if len(all) == 0 {
		testenv.Missing(t, "neither user-mode Linux nor QEMU with a kernel")
	}
	return all
}

func newDisk(t *testing.T, size int64) *os.File {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "disk"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	if err := f.Truncate(size); err != nil {
		t.Fatal(err)
	}
	return f
}

func TestRunOnDisks(t *testing.T) {
	for kind, spec := range kinds(t) {
		t.Run(string(kind), func(t *testing.T) {
			whole, part, in := newDisk(t, 1<<20), newDisk(t, 8<<20), newDisk(t, 4096)
			if _, err := in.WriteAt([]byte("what the host wrote\n"), 512); err != nil {
				t.Fatal(err)
			}
			spec.Name = "testing disks"
			spec.Disks = []Disk{{File: whole}, {File: part, Offset: 1 << 20, Size: 2 << 20}, {File: in, Offset: 512, ReadOnly: true}}
			spec.Programs = []string{"head", "cat"}
			spec.Script = `
printf whole >$disk1
printf part >$disk2
cat /sys/class/block/${disk2##*/}/size
head -n 1 $disk3
if printf x 2>/dev/null >$disk3; then sync; fi
`
			out, err := Run(t.Context(), spec)
			if err != nil {
				t.Fatal(err)
			}
			if want := "4096\nwhat the host wrote\n"; out != want {
				t.Errorf("the script printed %q, not %q", out, want)
			}
			got := make([]byte, 5)
			if _, err := whole.ReadAt(got, 0); err != nil || string(got) != "whole" {
				t.Errorf("%q, %v", got, err)
			}
			if _, err := part.ReadAt(got, 1<<20); err != nil || string(got) != "part\x00" {
				t.Errorf("%q, %v", got, err)
			}
			if _, err := in.ReadAt(got, 512); err != nil || string(got) != "what " {
				t.Errorf("a read-only disk was written: %q, %v", got, err)
			}
		})
	}
}

func TestScriptFails(t *testing.T) {
	for kind, spec := range kinds(t) {
		t.Run(string(kind), func(t *testing.T) {
			spec.Name, spec.Script = "testing a failure", "echo before\nfalse\necho after\n"
			_, err := Run(t.Context(), spec)
			var failed *ScriptError
			if !errors.As(err, &failed) || failed.Code != 1 || failed.Output != "before\n" {
				t.Errorf("%#v", err)
			}
			spec.Script = "if then ("
			_, err = Run(t.Context(), spec)
			var crashed *CrashError
			if !errors.As(err, &crashed) || !strings.Contains(err.Error(), "unexpected") {
				t.Errorf("%v", err)
			}
		})
	}
}

func TestTimeout(t *testing.T) {
	for kind, spec := range kinds(t) {
		t.Run(string(kind), func(t *testing.T) {
			spec.Name, spec.Script, spec.Timeout = "testing the time limit", "sleep 100", 6*time.Second
			spec.Programs = []string{"sleep"}
			start := time.Now()
			_, err := Run(t.Context(), spec)
			if err == nil || !strings.Contains(err.Error(), "not done after 6s") || time.Since(start) > 20*time.Second {
				t.Errorf("%v after %v", err, time.Since(start))
			}
		})
	}
}
