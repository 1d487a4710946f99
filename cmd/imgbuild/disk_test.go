package main

import (
	"archive/tar"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/imgbuild/imgbuild/internal/testenv"
)

// vmTarVariable names a tar archive with a Debian root tree that can boot, as the project's Makefile makes one.
const vmTarVariable = "IMGBUILD_TEST_VM_TAR"

// machineDescription adds nothing but settings, so that no program of the root tree has to run.
const machineDescription = `<?xml version="1.0" encoding="utf-8"?>
<image schemaversion="7.4" name="machine">
  <description type="system"><author>A</author><contact>a@example.org</contact><specification>S</specification></description>
  <preferences><version>1.0.0</version><packagemanager>apt</packagemanager>
    <type image="oem" filesystem="ext4" firmware="uefi" format="qcow2" kernelcmdline="console=ttyS0 net.ifnames=0">
      <bootloader name="grub2" timeout="1" console="serial"/>
    </type>
  </preferences>
  <users><user name="root" password="machine" pwdformat="plain" home="/root" shell="/bin/bash" groups="root"/></users>
  <repository type="apt-deb"><source path="http://192.0.2.1/nowhere"/></repository>
  <packages type="bootstrap"/>
</image>
`

// splitKernel writes the archive's kernels, initrds and modules into an archive of their own, below /lib as Debian 12's packages have them though the
// tree's /lib is a link.
func splitKernel(t *testing.T, archive, kernel string) {
	t.Helper()
	in, err := os.Open(archive)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	out, err := os.Create(kernel)
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	w := tar.NewWriter(out)
	files := 0
	r := tar.NewReader(in)
	for {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		name := strings.TrimPrefix(h.Name, "./")
		h.Name = strings.TrimPrefix(name, "usr/")
		if !strings.HasPrefix(name, "boot/") && !strings.HasPrefix(name, "usr/lib/modules/") {
			continue
		}
		files++
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(w, r); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(w.Close(), out.Close()); err != nil || files < 10 {
		t.Fatalf("%d entries, %v", files, err)
	}
}

// TestContainersBecomeADisk is the whole path on a real system: a container without a kernel and one with nothing else become a disk that boots,
// without anything being unpacked, with the same bytes each time.
func TestContainersBecomeADisk(t *testing.T) {
	testenv.NeedPrograms(t, "mke2fs", "e2fsck", "mkfs.vfat", "mcopy", "grub-mkimage", "qemu-img", "qemu-system-x86_64", "sfdisk")
	archive := os.Getenv(vmTarVariable)
	if archive == "" {
		testenv.Missing(t, "%s names no archive with a root tree", vmTarVariable)
	}
	testenv.NeedFile(t, archive)
	t.Setenv("SOURCE_DATE_EPOCH", "1790000000")
	k := newKilled(t)
	kernel := filepath.Join(k.dir, "kernel.tar")
	splitKernel(t, archive, kernel)
	k.must("stash", "--root", archive, "--container-name", "debian", "--tag", "12", "--exclude", "/boot/*", "--exclude", "/usr/lib/modules")
	k.must("stash", "--root", kernel, "--container-name", "debian-kernel", "--tag", "6.1")
	k.write(filepath.Join(k.dir, "description/config.xml"), machineDescription, 0o644)
	build := func(target string, more ...string) string {
		return k.must(append([]string{"stackbuild", "--stash", "debian:12", "--stash", "debian-kernel:6.1",
			"--description", filepath.Join(k.dir, "description"), "--target-dir", filepath.Join(k.dir, target)}, more...)...)
	}
	if plan := build("one", "--plan"); !strings.Contains(plan, "no program of the root tree has to run: nothing is unpacked") {
		t.Errorf("the plan is %s", plan)
	}
	start := time.Now()
	build("one")
	t.Logf("built in %v", time.Since(start).Round(10*time.Millisecond))
	build("two")
	one, two := k.results("one"), k.results("two")
	if one != two {
		t.Errorf("two builds differ:\n%s\n%s", one, two)
	}
	for _, target := range []string{"one", "two"} {
		if left, _ := filepath.Glob(filepath.Join(k.dir, target, "build*")); len(left) > 0 {
			t.Errorf("something was unpacked: %v", left)
		}
	}
	disk := filepath.Join(k.dir, "one/machine.x86_64-1.0.0.qcow2")
	k.checkRoot(disk)
	boots(t, disk, "machine", map[string]string{
		"findmnt -n -o FSTYPE /": "ext4", "ls -d /lib/modules/$(uname -r)/kernel": "modules", "test -L /lib && echo merged": "merged",
	})
}

// results are the checksums of a build, after they have been checked.
func (k *killed) results(target string) string {
	k.t.Helper()
	cmd := exec.Command("sha256sum", "--quiet", "-c", "SHA256SUMS")
	cmd.Dir = filepath.Join(k.dir, target)
	if out, err := cmd.CombinedOutput(); err != nil {
		k.t.Fatalf("checking the results: %v: %s", err, out)
	}
	sums, err := os.ReadFile(filepath.Join(cmd.Dir, "SHA256SUMS"))
	if err != nil || len(sums) == 0 {
		k.t.Fatalf("%v: %s", err, sums)
	}
	return string(sums)
}

// checkRoot runs e2fsck on the last partition, which is the root.
func (k *killed) checkRoot(disk string) {
	k.t.Helper()
	raw := filepath.Join(k.dir, "disk.raw")
	testenv.Run(k.t, "qemu-img", "convert", "-O", "raw", disk, raw)
	var table struct {
		Table struct {
			Sectorsize int64
			Partitions []struct{ Start, Size int64 }
		} `json:"partitiontable"`
	}
	if err := json.Unmarshal([]byte(testenv.Run(k.t, "sfdisk", "--json", raw)), &table); err != nil {
		k.t.Fatal(err)
	}
	if len(table.Table.Partitions) < 2 {
		k.t.Fatalf("partitions: %+v", table)
	}
	root := table.Table.Partitions[len(table.Table.Partitions)-1]
	testenv.Run(k.t, "e2fsck", "-fn", fmt.Sprintf("%s?offset=%d", raw, root.Start*table.Table.Sectorsize))
}
