package rootfs

import (
	"archive/tar"
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/imgbuild/imgbuild/description"
	"github.com/imgbuild/imgbuild/internal/lockeddir"
	"github.com/imgbuild/imgbuild/internal/repro"
	"github.com/imgbuild/imgbuild/internal/testenv"
	"github.com/imgbuild/imgbuild/layers"
)

// hostTree is a small root tree with some of this machine's programs and the libraries that they need.
func hostTree(t *testing.T, files map[string]string, programs ...string) *layers.Tree {
	t.Helper()
	edit := layers.NewTree().Edit(layers.Timespec{Sec: 1})
	put := func(name string, data []byte, perm uint32) {
		t.Helper()
		if err := edit.WriteFile(name, data, perm); err != nil {
			t.Fatal(err)
		}
	}
	for _, dir := range []string{"bin", "usr/sbin", "etc", "dev", "proc", "root"} {
		if err := edit.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, program := range programs {
		path := testenv.NeedProgram(t, program)
		libraries, err := exec.Command("ldd", path).Output()
		if err != nil {
			testenv.Missing(t, "ldd %s: %v", path, err)
		}
		needed := []string{path}
		for scan := bufio.NewScanner(strings.NewReader(string(libraries))); scan.Scan(); {
			for _, word := range strings.Fields(scan.Text()) {
				if strings.HasPrefix(word, "/") {
					needed = append(needed, word)
				}
			}
		}
		for _, file := range needed {
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			to := file
			if file == path {
				to = "bin/" + program
			}
			put(to, data, 0o755)
		}
	}
	for name, text := range files {
		put(name, []byte(text), 0o644)
	}
	return edit.Tree()
}

// oem is a description without packages.
const oem = `<?xml version="1.0" encoding="utf-8"?>
<image schemaversion="7.6" name="Test_Machine" id="4711">
  <description type="system"><author>A</author><contact>a@example.org</contact><specification>test</specification></description>
  <preferences>
    <version>1.0.0</version><packagemanager>apt</packagemanager><locale>POSIX</locale><keytable>us</keytable><timezone>UTC</timezone>
    <type image="IMAGE"/>
  </preferences>
  <users><user name="ann" password="!" groups="staff:50"/></users>
  <repository type="apt-deb"><source path="https://joe:hidden@deb.example.org/debian"/></repository>
  <packages type="image">PACKAGES</packages>
</image>
`

func describe(image string, packages ...string) string {
	var list strings.Builder
	for _, p := range packages {
		list.WriteString(p + "\n")
	}
	if image == "oem" {
		image = `oem" filesystem="ext4`
	}
	return strings.NewReplacer("IMAGE", image, "PACKAGES", list.String()).Replace(oem)
}

func request(t *testing.T, tree *layers.Tree, image *description.Image) Request {
	t.Helper()
	return Request{
		Tree: tree, Description: image, Dir: filepath.Join(t.TempDir(), "build/image-root"), Repro: repro.New(time.Unix(1700000000, 0), "test"),
		Log: slog.New(slog.NewTextHandler(testWriter{t}, nil)),
	}
}

type testWriter struct{ t *testing.T }

func (w testWriter) Write(p []byte) (int, error) {
	w.t.Log(strings.TrimSpace(string(p)))
	return len(p), nil
}

// TestNothingRuns makes all changes that need no program: nothing is written to the disk.
func TestNothingRuns(t *testing.T) {
	tree := hostTree(t, map[string]string{
		"etc/passwd": "root:x:0:0:root:/root:/bin/sh\n", "etc/shadow": "root:*:1:0:99999:7:::\n", "etc/group": "root:x:0:\n", "etc/machine-id": "0123\n",
		"image/config.sh": "exit 1\n", "image/old": "x", "etc/resolv.conf": "own", "var/log/dpkg.log": "kept", "var/lib/dbus/machine-id": "0123\n",
		"boot/vmlinuz-6.1": "k", "boot/initrd.img-6.1": "i", "lib/modules/6.1/modules.dep": "m",
	})
	image := load(t, map[string]string{"config.xml": describe("oem"), "root/etc/motd": "hello\n", "root/home/ann/x": "x", "notes.txt": "not for the image"})
	r := request(t, tree, image)
	result, err := Overlay(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	if result.Dir != "" || result.Ran != nil {
		t.Errorf("ran %q in %q", result.Ran, result.Dir)
	}
	if _, err := os.Stat(filepath.Dir(r.Dir)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("something was written: %v", err)
	}
	for name, want := range map[string]string{
		"etc/motd": "hello\n", "etc/passwd": "root:x:0:0:root:/root:/bin/sh\nann:x:1000:50::/home/ann:/bin/sh\n", "etc/shadow": "root:*:1:0:99999:7:::\nann:!:19675:0:99999:7:::\n",
		"etc/group": "root:x:0:\nstaff:x:50:\n", "etc/machine-id": "", "etc/ImageID": "4711\n", "etc/hostname": "test-machine\n", "etc/vconsole.conf": "KEYMAP=us\n",
		"etc/resolv.conf": "own", "var/log/dpkg.log": "kept",
	} {
		if diff := cmp.Diff(want, read(t, result.Tree, name)); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
	_, dir, err := result.Tree.Resolve("image")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"config.xml"}, dir.Names()); diff != "" {
		t.Errorf("/image: %s", diff)
	}
	xml := read(t, result.Tree, "image/config.xml")
	if !strings.Contains(xml, "Test_Machine") || strings.Contains(xml, "hidden") {
		t.Errorf("config.xml: %s", xml)
	}
	if n, err := result.Tree.Lookup("home/ann/x"); err != nil || n.UID != 1000 || n.GID != 50 {
		t.Errorf("%+v, %v", n, err)
	}
	if n, err := result.Tree.Lookup("var/lib/dbus/machine-id"); err != nil || !n.IsSymlink() {
		t.Errorf("%+v, %v", n, err)
	}
}

// TestScripts runs scripts in a tree that is unpacked for them.
func TestScripts(t *testing.T) { testenv.AsBoth(t, testScripts) }

func testScripts(t *testing.T) {
	tree := hostTree(t, map[string]string{"etc/passwd": "root:x:0:0:root:/root:/bin/sh\n", "etc/old": "old", "etc/resolv.conf": "own", "etc/hosts": "127.0.0.1 me\n"}, "bash", "rm", "mkdir", "cat", "chown", "chmod")
	edit := tree.Edit(layers.Timespec{})
	if err := edit.Put("dev/console", &layers.Node{Mode: layers.TypeChar | 0o600, Major: 5, Minor: 1}); err != nil {
		t.Fatal(err)
	}
	if err := edit.Put("etc/capable", &layers.Node{Mode: layers.TypeRegular | 0o755, UID: 7, GID: 8, Size: 1, Content: layers.Bytes("x"), Xattrs: []layers.Xattr{
		{Name: "security.capability", Value: "\x01\x00\x00\x02\x00\x20\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"},
	}}); err != nil {
		t.Fatal(err)
	}
	image := load(t, map[string]string{
		"config.xml": describe("oem"), "root/etc/motd": "hello\n", "post_bootstrap.sh": "#!/bin/bash\necho post > /order\n",
		"config.sh": "#!/bin/bash -e\n. /.profile\necho config $kiwi_iname >> /order\ncat /etc/motd >> /order\nrm /etc/old\necho junk >> /etc/resolv.conf\nmkdir /made\nchown 12:34 /made\nchmod 2750 /made\necho x > /etc/machine-id\n",
		"images.sh": "echo images >> /order\n",
	})
	r := request(t, edit.Tree(), image)
	result, err := Overlay(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"post_bootstrap.sh", "config.sh", "images.sh"}, result.Ran); diff != "" {
		t.Error(diff)
	}
	if result.Dir != r.Dir {
		t.Errorf("directory %q", result.Dir)
	}
	for name, want := range map[string]string{"order": "post\nconfig Test_Machine\nhello\nimages\n", "etc/resolv.conf": "own", "etc/hosts": "127.0.0.1 me\n", "etc/machine-id": ""} {
		if diff := cmp.Diff(want, read(t, result.Tree, name)); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
	if _, err := result.Tree.Lookup("etc/old"); err == nil {
		t.Error("/etc/old is still there")
	}
	if n, err := result.Tree.Lookup("made"); err != nil || n.UID != 12 || n.GID != 34 || n.Perm() != 0o2750 {
		t.Errorf("/made: %+v, %v", n, err)
	}
	if n, err := result.Tree.Lookup("dev/console"); err != nil || n.Type() != layers.TypeChar || n.Major != 5 || n.Minor != 1 || n.Perm() != 0o600 {
		t.Errorf("/dev/console: %+v, %v", n, err)
	}
	if n, err := result.Tree.Lookup("etc/capable"); err != nil || n.UID != 7 || n.GID != 8 || len(n.Xattrs) != 1 || len(n.Xattrs[0].Value) != 20 {
		t.Errorf("/etc/capable: %+v, %v", n, err)
	}
	entries, err := os.ReadDir(filepath.Dir(r.Dir))
	if err != nil || len(entries) != 1 {
		t.Errorf("beside the tree: %v, %v", entries, err)
	}
}

func TestScriptFails(t *testing.T) {
	testenv.NeedRoot(t)
	tree := hostTree(t, map[string]string{"etc/passwd": ""}, "bash", "ls")
	image := load(t, map[string]string{"config.xml": describe("oem"), "config.sh": "#!/bin/bash -e\necho almost there\nls /nonsense\n"})
	r := request(t, tree, image)
	_, err := Overlay(t.Context(), r)
	for _, want := range []string{"config.sh", "it failed at line 3 (exit code 2): ls /nonsense", "almost there"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v has no %q", err, want)
		}
	}
	entries, err := os.ReadDir(filepath.Dir(r.Dir))
	if err != nil || len(entries) != 1 {
		t.Errorf("beside the tree: %v, %v", entries, err)
	}
}

// TestRebuild builds a tree again after its own description: only what comes with each image runs.
func TestRebuild(t *testing.T) {
	testenv.NeedRoot(t)
	tree := hostTree(t, map[string]string{"image/images.sh": "echo again >> /order\n", "image/config.sh": "exit 1", "order": "", "etc/machine-id": "77"}, "bash")
	image := load(t, map[string]string{"config.xml": describe("oem", `<package name="not-there"/>`), "root/etc/motd": "no"})
	r := request(t, tree, image)
	r.Phase = Create
	result, err := Overlay(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	if got := read(t, result.Tree, "order"); got != "again\n" || len(result.Ran) != 1 {
		t.Errorf("%q, ran %q", got, result.Ran)
	}
	if _, err := result.Tree.Lookup("etc/motd"); err == nil {
		t.Error("the overlay was added again")
	}
	edit := tree.Edit(layers.Timespec{})
	if err := edit.Remove("image/images.sh"); err != nil {
		t.Fatal(err)
	}
	r = request(t, edit.Tree(), image)
	r.Phase = Create
	result, err = Overlay(t.Context(), r)
	if err != nil || result.Dir != "" {
		t.Errorf("%v, directory %q", err, result.Dir)
	}
}

// tarball is a tar archive with one file, x.
func tarball(t *testing.T) string {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	if err := w.WriteHeader(&tar.Header{Name: "x", Mode: 0o644, Size: 1}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func compressed(t *testing.T, text string) string {
	t.Helper()
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	if _, err := w.Write([]byte(text)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestArchivesAndFiles(t *testing.T) {
	tree := hostTree(t, nil)
	files := map[string]string{
		"config.xml": strings.Replace(describe("tbz", `<archive name="a.tar"/>`, `<archive name="sub/b.tar.gz" target_dir="/srv/b"/>`, `<file name="one" target="/opt/two" permissions="4711" owner="7:8"/>`), `schemaversion="7.6"`, `schemaversion="8.0"`, 1),
		"one":        "1", "a.tar": tarball(t), "sub/b.tar.gz": compressed(t, tarball(t)),
	}
	image := load(t, files)
	dir := image.Dir
	result, err := Overlay(t.Context(), request(t, tree, image))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := result.Tree.Lookup("image/b.tar.gz"); err != nil {
		t.Error(err)
	}
	if got := read(t, result.Tree, "x") + read(t, result.Tree, "srv/b/x") + read(t, result.Tree, "opt/two"); got != "xx1" {
		t.Errorf("%q", got)
	}
	if n, err := result.Tree.Lookup("opt/two"); err != nil || n.Perm() != 0o4711 || n.UID != 7 || n.GID != 8 {
		t.Errorf("%+v, %v", n, err)
	}
	if _, err := result.Tree.Lookup("image/a.tar"); err != nil {
		t.Error(err)
	}
	if err := os.Remove(filepath.Join(dir, "a.tar")); err != nil {
		t.Fatal(err)
	}
	_, err = Overlay(t.Context(), request(t, tree, image))
	var at *description.Error
	if !errors.As(err, &at) || !strings.Contains(err.Error(), "a.tar") {
		t.Errorf("error %v", err)
	}
}

func TestPackagesThatNothingCanInstall(t *testing.T) {
	for _, test := range []struct {
		name, manager string
		files         map[string]string
		want          string
	}{
		{"no database", "apt", nil, "no dpkg database"},
		{"distroless", "apt", map[string]string{"var/lib/dpkg/status.d/x": "Package: x\nVersion: 1\n"}, "distroless"},
		{"another manager", "dnf4", map[string]string{"var/lib/dpkg/status": "Package: x\nStatus: install ok installed\n"}, "packages of dpkg"},
	} {
		t.Run(test.name, func(t *testing.T) {
			text := strings.Replace(describe("oem", `<package name="hello"/>`), "<packagemanager>apt", "<packagemanager>"+test.manager, 1)
			if test.manager != "apt" {
				text = strings.Replace(text, `type="apt-deb"`, `type="rpm-md"`, 1)
			}
			_, err := Overlay(t.Context(), request(t, hostTree(t, test.files), load(t, map[string]string{"config.xml": text})))
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("error %v", err)
			}
			if _, err := PlanOverlay(t.Context(), request(t, hostTree(t, test.files), load(t, map[string]string{"config.xml": text}))); err == nil {
				t.Error("the plan has no error")
			}
		})
	}
}

func TestNoInitrdTool(t *testing.T) {
	tree := hostTree(t, map[string]string{"boot/vmlinuz-6.1": "k", "lib/modules/6.1/modules.dep": "m"})
	_, err := Overlay(t.Context(), request(t, tree, load(t, map[string]string{"config.xml": describe("oem")})))
	if err == nil || !strings.Contains(err.Error(), "initramfs-tools") || !strings.Contains(err.Error(), "6.1") {
		t.Errorf("error %v", err)
	}
	result, err := Overlay(t.Context(), request(t, tree, load(t, map[string]string{"config.xml": describe("docker")})))
	if err != nil || result.Ran != nil {
		t.Errorf("a container needs no initrd: %v", err)
	}
}

// TestWantedInitrds is about which image types get an initial RAM disk, where the tree has a kernel, and what makes one or not.
func TestWantedInitrds(t *testing.T) {
	const kernel, tool = "boot/vmlinuz-6.1", "usr/sbin/mkinitramfs"
	for _, c := range []struct {
		image                 string
		hasInitrd, hasTool    bool
		newPackages, wantsOne bool
	}{
		{image: "oem", wantsOne: true}, {image: "kis", wantsOne: true}, {image: "pxe", wantsOne: true},
		{image: "oem", hasInitrd: true, hasTool: true}, {image: "oem", hasInitrd: true, hasTool: true, newPackages: true, wantsOne: true},
		{image: "oem", hasInitrd: true, newPackages: true},
		{image: "tbz", hasTool: true}, {image: "tbz", hasTool: true, newPackages: true, wantsOne: true}, {image: "tbz", newPackages: true},
		{image: "ext4", hasInitrd: true, hasTool: true, newPackages: true, wantsOne: true},
		{image: "docker", hasTool: true, newPackages: true}, {image: "oci", hasTool: true, newPackages: true}, {image: "iso", hasTool: true, newPackages: true},
	} {
		files := map[string]string{kernel: "k", "lib/modules/6.1/modules.dep": "m"}
		if c.hasInitrd {
			files["boot/initrd.img-6.1"] = "i"
		}
		if c.hasTool {
			files[tool] = "x"
		}
		tree := hostTree(t, files)
		o := newOverlay(request(t, tree, load(t, map[string]string{"config.xml": describe(c.image)})))
		o.installed = c.newPackages
		if got := len(o.wantedInitrds(tree)) == 1; got != c.wantsOne {
			t.Errorf("%+v: %v", c, got)
		}
	}
}

func TestPlan(t *testing.T) {
	tree := hostTree(t, map[string]string{"boot/vmlinuz-6.1": "k", "lib/modules/6.1/modules.dep": "m", "usr/sbin/mkinitramfs": "x", "image/images.sh": "x"})
	image := load(t, map[string]string{"config.xml": describe("oem", `<archive name="a.tar"/>`), "config.sh": "x", "root/x": "x", "a.tar": tarball(t)})
	plan, err := PlanOverlay(t.Context(), request(t, tree, image))
	if err != nil {
		t.Fatal(err)
	}
	const want = "unpack archives: a.tar\nadd the description's files\nmake or change users: ann\nrun scripts: config.sh\nmake the initial RAM disk of kernel 6.1\n"
	if diff := cmp.Diff(want, plan.String()); diff != "" {
		t.Error(diff)
	}
	r := request(t, tree, image)
	r.Phase = Create
	if plan, err = PlanOverlay(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff("run scripts: images.sh\nmake the initial RAM disk of kernel 6.1\n", plan.String()); diff != "" || !plan.Unpack {
		t.Error(diff)
	}
	plan, err = PlanOverlay(t.Context(), request(t, hostTree(t, nil), load(t, map[string]string{"config.xml": describe("docker")})))
	if err != nil || plan.Unpack || !strings.HasSuffix(plan.String(), "nothing is unpacked\n") {
		t.Errorf("%s, %v", plan, err)
	}
}

func TestCanceled(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := Overlay(ctx, request(t, hostTree(t, nil), load(t, map[string]string{"config.xml": describe("docker")})))
	if !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
}

// TestScratchOfKilledRun leaves a directory as a killed run would, and one of a run that lives.
func TestScratchOfKilledRun(t *testing.T) {
	parent := filepath.Join(t.TempDir(), "build")
	alive, err := newScratch(parent)
	if err != nil {
		t.Fatal(err)
	}
	dead := filepath.Join(parent, scratchPrefix+"dead")
	if err := os.MkdirAll(filepath.Join(dead, "x/y"), 0o755); err != nil {
		t.Fatal(err)
	}
	second, err := newScratch(parent)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(dead); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the dead one is there: %v", err)
	}
	for _, s := range []*lockeddir.Dir{alive, second} {
		if _, err := os.Stat(s.Name()); err != nil {
			t.Error(err)
		}
		if err := s.Remove(); err != nil {
			t.Error(err)
		}
	}
	if entries, err := os.ReadDir(parent); err != nil || len(entries) != 0 {
		t.Errorf("left: %v, %v", entries, err)
	}
}
