package kis

import (
	"bytes"
	"crypto/md5"
	"encoding/hex"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/imgbuild/imgbuild/imagetypes/image"
	"github.com/imgbuild/imgbuild/imagetypes/internal/imagetest"
	"github.com/imgbuild/imgbuild/internal/testenv"
	"github.com/imgbuild/imgbuild/layers"
)

// sample is a small tree with two kernels, of which the second is newer.
func sample(t *testing.T) *layers.Tree {
	t.Helper()
	edit := layers.NewTree().Edit(layers.Timespec{Sec: 1600000000})
	for name, data := range map[string]string{
		"boot/vmlinuz-6.1.0-9": "old", "boot/initrd.img-6.1.0-9": "old", "boot/vmlinuz-6.1.0-10": "kernel", "boot/initrd.img-6.1.0-10": "initrd",
		"boot/xen-4.17-amd64.gz": "hypervisor", "etc/hosts": "localhost", "image/config.xml": "x",
	} {
		if err := edit.WriteFile(name, []byte(data), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return edit.Tree()
}

// unpacked builds a request and unpacks the archive with GNU tar. It returns the directory and the names in it.
func unpacked(t *testing.T, tree *layers.Tree, kind, attributes string) (string, []string) {
	t.Helper()
	testenv.NeedPrograms(t, "xz", "tar")
	file := imagetest.Build(t, Builder{}, imagetest.Request(t, tree, kind, attributes, ""))
	for line := range strings.Lines(testenv.Run(t, "tar", "-tf", file)) {
		if strings.Contains(strings.TrimSuffix(line, "\n"), "/") {
			t.Errorf("the archive has %s", line)
		}
	}
	dir := t.TempDir()
	testenv.Run(t, "tar", "-C", dir, "-xf", file)
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, strings.TrimPrefix(e.Name(), imagetest.BaseName))
	}
	return dir, names
}

func read(t *testing.T, dir, suffix string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(dir, imagetest.BaseName+suffix))
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func TestArchiveHolds(t *testing.T) {
	testenv.NeedPrograms(t, "mke2fs", "e2fsck", "debugfs")
	dir, names := unpacked(t, sample(t), "kis", `filesystem="ext4" kernelcmdline="console=ttyS0 quiet"`)
	want := []string{"", "-6.1.0-10.kernel", ".append", ".initrd", ".md5", ".sha256"}
	if diff := cmp.Diff(want, names); diff != "" {
		t.Fatal(diff)
	}
	if read(t, dir, "-6.1.0-10.kernel") != "kernel" || read(t, dir, ".initrd") != "initrd" {
		t.Error("kernel and initrd are not those of the newest version")
	}
	system := filepath.Join(dir, imagetest.BaseName)
	testenv.Run(t, "e2fsck", "-fn", system)
	if out := testenv.Run(t, "debugfs", "-R", "cat /etc/hosts", system); !strings.Contains(out, "localhost") {
		t.Errorf("the file system has no /etc/hosts: %s", out)
	}
	uuid := strings.TrimSpace(testenv.Run(t, "blkid", "-o", "value", "-s", "UUID", system))
	if got := read(t, dir, ".append"); got != "root=UUID="+uuid+" rw console=ttyS0 quiet" {
		t.Errorf("the kernel is told %q", got)
	}
	checkSum(t, dir, ".md5", []byte(read(t, dir, "")))
}

// TestIdentifierOfOptions tells the kernel the identifier that the options for mkfs give the file system.
func TestIdentifierOfOptions(t *testing.T) {
	testenv.NeedPrograms(t, "mke2fs", "blkid")
	const uuid = "12345678-1234-1234-1234-123456789abc"
	dir, _ := unpacked(t, sample(t), "kis", `filesystem="ext4" fscreateoptions="-U `+uuid+` -L System"`)
	if got := read(t, dir, ".append"); got != "root=UUID="+uuid+" rw" {
		t.Errorf("the kernel is told %q", got)
	}
	found := testenv.Run(t, "blkid", "-p", "-o", "export", filepath.Join(dir, imagetest.BaseName))
	if !strings.Contains(found, "\nUUID="+uuid+"\n") || !strings.Contains(found, "LABEL=System\n") {
		t.Errorf("blkid: %s", found)
	}
}

// checkSum reads as many blocks as the file says and compares.
func checkSum(t *testing.T, dir, suffix string, data []byte) {
	t.Helper()
	var digest string
	var blocks, size int
	if _, err := fmt.Sscan(read(t, dir, suffix), &digest, &blocks, &size); err != nil {
		t.Fatal(err)
	}
	got := md5.Sum(data)
	if blocks*size != len(data) || hex.EncodeToString(got[:]) != digest {
		t.Errorf("%s says %s of %d blocks of %d bytes; the system has %d bytes and %x", suffix, digest, blocks, size, len(data), got)
	}
}

func TestCompressedSystem(t *testing.T) {
	testenv.NeedPrograms(t, "mke2fs")
	dir, names := unpacked(t, sample(t), "kis", `filesystem="ext2" compressed="true" xen_server="true"`)
	want := []string{"-6.1.0-10.kernel", "-xen-4.17-amd64.gz", ".append", ".initrd", ".md5", ".sha256", ".xz"}
	if diff := cmp.Diff(want, names); diff != "" {
		t.Fatal(diff)
	}
	plain, err := exec.Command("xz", "-dc", filepath.Join(dir, imagetest.BaseName+".xz")).Output()
	if err != nil {
		t.Fatal(err)
	}
	checkSum(t, dir, ".md5", plain)
	fields := strings.Fields(read(t, dir, ".md5"))
	if len(fields) != 5 {
		t.Fatalf(".md5 has %q", fields)
	}
	var blocks, size int
	if _, err := fmt.Sscan(strings.Join(fields[3:], " "), &blocks, &size); err != nil {
		t.Fatal(err)
	}
	if n := len(read(t, dir, ".xz")); blocks*size != n {
		t.Errorf("the compressed system has %d bytes, and %q", n, fields)
	}
}

// TestSquashfs has a system that has no identifier to tell the kernel.
func TestSquashfs(t *testing.T) {
	_, names := unpacked(t, sample(t), "kis", `filesystem="squashfs"`)
	if diff := cmp.Diff([]string{"", "-6.1.0-10.kernel", ".initrd", ".md5", ".sha256"}, names); diff != "" {
		t.Error(diff)
	}
	dir, _ := unpacked(t, sample(t), "kis", `filesystem="squashfs" kernelcmdline="root=/dev/vda"`)
	if got := read(t, dir, ".append"); got != "root=/dev/vda" {
		t.Errorf("the kernel is told %q", got)
	}
}

func TestWithoutSystem(t *testing.T) {
	_, names := unpacked(t, sample(t), "kis", "")
	if diff := cmp.Diff([]string{"-6.1.0-10.kernel", ".initrd"}, names); diff != "" {
		t.Error(diff)
	}
}

func TestWhatIsMissingIsNamed(t *testing.T) {
	testenv.NeedPrograms(t, "xz", "mke2fs")
	for name, c := range map[string]struct{ remove, attributes, want string }{
		"kernel":     {"boot", "", "no kernel"},
		"initrd":     {"boot/initrd.img-6.1.0-10", "", "initial RAM disk of kernel 6.1.0-10"},
		"options":    {"etc/hosts", `filesystem="ext3" fscreateoptions="-O nonsense"`, "mke2fs does not take"},
		"hypervisor": {"boot/xen-4.17-amd64.gz", `xen_server="true"`, "Xen hypervisor"},
	} {
		edit := sample(t).Edit(layers.Timespec{})
		if err := edit.Remove(c.remove); err != nil {
			t.Fatal(err)
		}
		err := Builder{}.Check(t.Context(), imagetest.Request(t, edit.Tree(), "kis", c.attributes, ""))
		if err == nil || !strings.Contains(err.Error(), c.want) || !strings.HasPrefix(err.Error(), "config.xml:") {
			t.Errorf("%s: error is %v", name, err)
		}
	}
}

// TestXenHostHasAKernelForIt leaves out a newer kernel that can't be the first machine of a host.
func TestXenHostHasAKernelForIt(t *testing.T) {
	edit := sample(t).Edit(layers.Timespec{})
	if err := edit.WriteFile("boot/config-6.1.0-10", []byte("# CONFIG_XEN_DOM0 is not set\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	start, err := StartOf(imagetest.Request(t, edit.Tree(), "kis", `xen_server="true"`, ""))
	if err != nil || start.Kernel != imagetest.BaseName+"-6.1.0-9.kernel" {
		t.Errorf("%+v, %v", start, err)
	}
}

// TestHypervisorIsAResult has it beside the archive, as KIWI, and in it.
func TestHypervisorIsAResult(t *testing.T) {
	testenv.NeedPrograms(t, "xz", "tar")
	r := imagetest.Request(t, sample(t), "kis", `xen_server="true"`, "")
	results, err := Builder{}.Build(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	name := imagetest.BaseName + "-xen-4.17-amd64.gz"
	if len(results) != 2 || results[1].Key != image.KeyXenHypervisor || results[1].File != name || results[1].Compress {
		t.Fatalf("results are %+v", results)
	}
	if read(t, r.Dir, "-xen-4.17-amd64.gz") != "hypervisor" || testenv.Run(t, "tar", "-xOf", filepath.Join(r.Dir, results[0].File), name) != "hypervisor" {
		t.Error("the hypervisor is another one")
	}
}

func TestReproducible(t *testing.T) {
	testenv.NeedPrograms(t, "xz", "mke2fs")
	var archives [][]byte
	for range 2 {
		data, err := os.ReadFile(imagetest.Build(t, Builder{}, imagetest.Request(t, sample(t), "kis", `filesystem="ext4"`, "")))
		if err != nil {
			t.Fatal(err)
		}
		archives = append(archives, data)
		time.Sleep(1100 * time.Millisecond)
	}
	if !bytes.Equal(archives[0], archives[1]) {
		t.Error("two builds differ")
	}
}

func TestBlockSize(t *testing.T) {
	for size, want := range map[int64]int64{1 << 20: 8192, 3 * 8191: 8191, 7: 7, 104729: 1, 2 * 104729: 2} {
		if got := blockSize(size); got != want || size%got != 0 {
			t.Errorf("%d bytes in blocks of %d, not %d", size, got, want)
		}
	}
}
