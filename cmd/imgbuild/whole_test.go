package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/imgbuild/imgbuild/internal/qemu"
	"github.com/imgbuild/imgbuild/internal/testenv"
	"github.com/imgbuild/imgbuild/system"
)

// debianMirror is where whole builds get their packages from.
const debianMirror = "http://deb.debian.org/debian"

// debianKey is what the mirror signs with.
const debianKey = "/usr/share/keyrings/debian-archive-keyring.gpg"

// wholeBuild is a place for builds with the packages of Debian's mirror.
func wholeBuild(t *testing.T) *killed {
	t.Helper()
	if testing.Short() {
		t.Skip("not in short mode: it installs packages from Debian's mirror")
	}
	testenv.NeedPrograms(t, "apt-get", "mke2fs", "mkfs.vfat", "mcopy", "grub-mkimage", "qemu-img")
	testenv.NeedFile(t, debianKey)
	t.Setenv("SOURCE_DATE_EPOCH", "1790000000")
	return newKilled(t)
}

// boots starts a disk, logs in and asks it things.
func boots(t *testing.T, disk, password string, questions map[string]string) {
	t.Helper()
	testenv.NeedProgram(t, "qemu-system-x86_64")
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	start := time.Now()
	m, err := qemu.Start(ctx, qemu.Spec{Firmware: qemu.UEFI, Disks: []qemu.Disk{{File: disk, Format: "qcow2"}}})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	if err := m.Login(ctx, "root", password, 5*time.Minute); err != nil {
		t.Fatal(err)
	}
	t.Logf("logged in after %v", time.Since(start).Round(100*time.Millisecond))
	for command, want := range questions {
		output, code, err := m.Run(ctx, command, 2*time.Minute)
		if err != nil {
			t.Fatal(err)
		}
		if code != 0 || !strings.Contains(output, want) {
			t.Errorf("%s: exit code %d, output %q lacks %q", command, code, output, want)
		}
	}
}

// TestDebianFromPackages is the example, made of nothing but packages: prepared and created, then built at once and offline with the lock of the
// first, with the same bytes. Root's disk boots.
func TestDebianFromPackages(t *testing.T) {
	k := wholeBuild(t)
	example, err := filepath.Abs("../../examples/debian-from-packages")
	if err != nil {
		t.Fatal(err)
	}
	root, one, two := filepath.Join(k.dir, "root"), filepath.Join(k.dir, "one"), filepath.Join(k.dir, "two")
	start := time.Now()
	k.must("prepare", "--description", example, "--root", root)
	t.Logf("prepared in %v", time.Since(start).Round(time.Second))
	k.must("create", "--root", root, "--target-dir", one)
	t.Logf("created after %v", time.Since(start).Round(time.Second))
	k.nothingLeft()
	for _, name := range []string{"etc/systemd/network/80-dhcp.network", "usr/sbin/sshd", "image/config.sh"} {
		if _, err := os.Stat(filepath.Join(root, name)); err != nil {
			t.Error(err)
		}
	}
	if data, err := os.ReadFile(filepath.Join(root, "etc/issue.net")); err != nil || string(data) != "Debian-Server 1.0.0\n" {
		t.Errorf("config.sh left %q, %v", data, err)
	}
	if err := os.RemoveAll(root); err != nil {
		t.Fatal(err)
	}
	k.must("build", "--description", example, "--target-dir", two, "--offline", "--locked="+filepath.Join(one, system.LockFile))
	t.Logf("built again after %v", time.Since(start).Round(time.Second))
	if diff := cmp.Diff(k.results("one"), k.results("two")); diff != "" {
		t.Errorf("prepared and created, and built with its lock, it differs: %s", diff)
	}
	disk := filepath.Join(one, "Debian-Server.x86_64-1.0.0.qcow2")
	k.checkRoot(disk)
	if os.Getuid() != 0 || testenv.InUserNamespace() {
		return
	}
	boots(t, disk, "linux", map[string]string{
		"findmnt -n -o FSTYPE /":                                  "ext4",
		"systemctl start ssh && systemctl is-active ssh":          "active",
		"systemctl is-enabled systemd-networkd":                   "enabled",
		"dpkg --verify; dpkg -s openssh-server | grep ^Status":    "install ok installed",
		"apt-get -s install hello; cat /etc/apt/sources.list.d/*": "deb.debian.org",
		"localectl status":                                        "en_US",
	})
}

// TestUnchangedKiwiDescription builds a disk from a description of KIWI's own, of which only the repositories are replaced, by options. It boots with what
// the description says.
func TestUnchangedKiwiDescription(t *testing.T) {
	corpus := os.Getenv("IMGBUILD_CONFORMANCE")
	if corpus == "" {
		corpus = filepath.Join("..", "..", "..", "shared", "conformance")
	}
	description := filepath.Join(corpus, "input/kiwi/build-tests/x86/debian/test-image-live-disk")
	if _, err := os.Stat(description); err != nil {
		t.Skipf("no conformance corpus at %s; set IMGBUILD_CONFORMANCE", corpus)
	}
	testenv.NeedRealRoot(t) // once is enough
	k := wholeBuild(t)
	target := filepath.Join(k.dir, "out")
	start := time.Now()
	k.must("--profile", "Virtual", "system", "build", "--description", description, "--target-dir", target, "--ignore-repos",
		"--add-repo", fmt.Sprintf("%s,apt-deb,bookworm,,,,,main,bookworm", debianMirror), "--signing-key", debianKey)
	t.Logf("built in %v", time.Since(start).Round(time.Second))
	k.results("out")
	k.nothingLeft()
	disk := filepath.Join(target, "kiwi-test-image-live-disk.x86_64-10.4.qcow2")
	k.checkRoot(disk)
	packages, err := os.ReadFile(filepath.Join(target, "kiwi-test-image-live-disk.x86_64-10.4.packages"))
	if err != nil || !strings.Contains(string(packages), "plymouth-themes|None|") {
		t.Errorf("the list of packages: %.200s, %v", packages, err)
	}
}
