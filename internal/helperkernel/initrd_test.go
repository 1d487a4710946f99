package helperkernel

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"

	"github.com/imgbuild/imgbuild/internal/testenv"
)

func TestCPIO(t *testing.T) {
	cpio := testenv.NeedProgram(t, "cpio")
	var archive bytes.Buffer
	out := newInitrd(&archive)
	out.add("/usr/bin/odd", 0o100755, []byte("12345"))
	out.add("usr/bin/odd", 0o100755, []byte("a second one is left out"))
	out.add("empty", 0o100644, nil)
	if err := out.close(); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	cmd := exec.Command(cpio, "-id", "--quiet", "-D", dir)
	cmd.Stdin = &archive
	if text, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("cpio: %v\n%s", err, text)
	}
	data, err := os.ReadFile(filepath.Join(dir, "usr/bin/odd"))
	if err != nil || string(data) != "12345" {
		t.Errorf("%q, %v", data, err)
	}
	info, err := os.Stat(filepath.Join(dir, "empty"))
	if err != nil || info.Size() != 0 || info.Mode().Perm() != 0o644 {
		t.Errorf("%v, %v", info, err)
	}
}

// TestClosure runs a program of this machine in a directory that holds nothing but what was collected for it.
func TestClosure(t *testing.T) {
	testenv.NeedRealRoot(t)
	cpio := testenv.NeedProgram(t, "cpio")
	var archive bytes.Buffer
	out := newInitrd(&archive)
	c := &closure{out: out, libs: map[string]bool{}}
	for _, name := range []string{"sh", "tar", "mount"} {
		if err := c.program(name); err != nil {
			t.Fatal(err)
		}
	}
	if err := out.close(); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	cmd := exec.Command(cpio, "-id", "--quiet", "-D", dir)
	cmd.Stdin = &archive
	if text, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("cpio: %v\n%s", err, text)
	}
	shell := testenv.NeedProgram(t, "sh")
	tar, mount := testenv.NeedProgram(t, "tar"), testenv.NeedProgram(t, "mount")
	text := testenv.Run(t, "chroot", dir, shell, "-c", "export LD_LIBRARY_PATH="+strings.Join(c.dirs, ":")+"; "+tar+" --version && "+mount+" --version")
	if !strings.Contains(text, "GNU tar") || !strings.Contains(text, "util-linux") {
		t.Errorf("%s", text)
	}
	if err := c.program("no-such-program"); err == nil || !strings.Contains(err.Error(), "not installed") {
		t.Errorf("%v", err)
	}
}

func modulesFS() fstest.MapFS {
	file := func(text string) *fstest.MapFile { return &fstest.MapFile{Data: []byte(text)} }
	image := make([]byte, 0x300)
	if runtime.GOARCH == "amd64" {
		copy(image[0x202:], "HdrS")
	}
	return fstest.MapFS{
		"boot/vmlinuz-6.1.0":                            &fstest.MapFile{Data: image},
		"boot/vmlinuz-6.2.0":                            &fstest.MapFile{Data: image},
		"boot/vmlinuz-5.0.0":                            &fstest.MapFile{Data: image}, // has no modules
		"lib/modules/6.1.0/modules.dep":                 file(""),
		"usr/lib/modules/6.2.0/modules.dep":             file("kernel/fs/xfs/xfs.ko.xz: kernel/lib/libcrc32c.ko\nkernel/lib/libcrc32c.ko:\nkernel/crypto/crc32c_generic.ko:\nkernel/fs/other.ko:\n"),
		"usr/lib/modules/6.2.0/modules.softdep":         file("# comment\nsoftdep libcrc32c pre: crc32c\n"),
		"usr/lib/modules/6.2.0/modules.alias":           file("alias crypto-crc32c crc32c_generic\nalias pci:v*d* other\n"),
		"usr/lib/modules/6.2.0/kernel/fs/xfs/xfs.ko":    file("x"),
		"usr/lib/modules/6.2.0/kernel/lib/libcrc32c.ko": file("x"),
	}
}

func TestModuleClosure(t *testing.T) {
	fsys := modulesFS()
	var kernels []string
	for _, k := range KernelsOf(fsys) {
		kernels = append(kernels, k.Image+" "+k.Modules)
	}
	want := []string{"boot/vmlinuz-6.2.0 usr/lib/modules/6.2.0", "boot/vmlinuz-6.1.0 lib/modules/6.1.0"}
	if diff := cmp.Diff(want, kernels); diff != "" {
		t.Error(diff)
	}
	m, err := readModules(fsys, "usr/lib/modules/6.2.0")
	if err != nil {
		t.Fatal(err)
	}
	got := m.closure([]string{"xfs", "built-in"})
	want = []string{"kernel/crypto/crc32c_generic.ko", "kernel/fs/xfs/xfs.ko.xz", "kernel/lib/libcrc32c.ko"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if _, err := readModules(fsys, "lib/modules/none"); err == nil {
		t.Error("a missing directory of modules is no error")
	}
}

func TestLastLines(t *testing.T) {
	got := lastLines("first\r\nsh: not found\r\nKernel panic - not syncing: no init\r\nRIP: 0033\r\nmore\r\n")
	if want := "first\nsh: not found\nKernel panic - not syncing: no init"; got != want {
		t.Errorf("%q", got)
	}
}

func TestBadDisks(t *testing.T) {
	_, err := Run(t.Context(), Spec{Name: "testing", Disks: []Disk{{File: newDisk(t, 1024), Offset: 100}}})
	if err == nil || !strings.Contains(err.Error(), "disk 1 is no whole number of 512-byte sectors") {
		t.Errorf("%v", err)
	}
}

func TestKernelHas(t *testing.T) {
	fsys := fstest.MapFS{
		"lib/modules/6.1.0/modules.dep":     {Data: []byte("kernel/fs/btrfs/btrfs.ko.zst: kernel/lib/raid6/raid6_pq.ko.zst\nkernel/lib/raid6/raid6_pq.ko.zst:\n")},
		"lib/modules/6.1.0/modules.builtin": {Data: []byte("kernel/fs/ext4/ext4.ko\n")},
	}
	kernel := Kernel{FS: fsys, Modules: "lib/modules/6.1.0"}
	for module, want := range map[string]bool{"btrfs": true, "raid6-pq": true, "ext4": true, "reiserfs": false} {
		if got, err := kernel.Has(module); err != nil || got != want {
			t.Errorf("%s: %v, %v", module, got, err)
		}
	}
	if _, err := (Kernel{FS: fsys, Modules: "lib/modules/none"}).Has("ext4"); err == nil {
		t.Error("a kernel without modules gives no error")
	}
}
