package rootfs

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/imgbuild/imgbuild/description"
	"github.com/imgbuild/imgbuild/internal/repro"
	"github.com/imgbuild/imgbuild/internal/testenv"
	"github.com/imgbuild/imgbuild/internal/userns"
	"github.com/imgbuild/imgbuild/layers"
	"github.com/imgbuild/imgbuild/layers/layerstest"
	"github.com/imgbuild/imgbuild/rootfs/database"
	"github.com/imgbuild/imgbuild/rootfs/sandbox"
)

func TestMain(m *testing.M) {
	sandbox.Init()
	userns.MustEnter()
	os.Exit(m.Run())
}

// debianVariable names a tar file with a minimal Debian 12 root tree; without it the test makes one.
const debianVariable = "IMGBUILD_TEST_DEBIAN"

// debianTar returns the path of a tar file with a minimal Debian 12, which ordinary users can read.
func debianTar(t *testing.T) string {
	t.Helper()
	if testing.Short() {
		t.Skip("not in short mode: it installs packages from Debian's mirror")
	}
	if name := os.Getenv(debianVariable); name != "" {
		return name
	}
	testenv.NeedProgram(t, "mmdebstrap")
	dir, err := os.MkdirTemp("", "imgbuild-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(dir, "debian.tar")
	testenv.Run(t, "mmdebstrap", "--quiet", "--variant=minbase", "bookworm", name)
	return name
}

// fastDir returns a directory in memory, or else on the disk.
func fastDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "imgbuild-test-")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

// load writes a description's files and resolves it.
func load(t *testing.T, files map[string]string) *description.Image {
	t.Helper()
	return loadFor(t, "x86_64", files)
}

// loadFor is load for another architecture.
func loadFor(t *testing.T, arch string, files map[string]string) *description.Image {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	doc, err := description.Load(dir, description.LoadOptions{})
	if err != nil {
		t.Fatal(err)
	}
	image, err := doc.Resolve(description.Selection{Arch: arch})
	if err != nil {
		t.Fatal(err)
	}
	return image
}

// machine is a description of a machine that boots.
func machine(packages ...string) string {
	var list strings.Builder
	for _, p := range packages {
		fmt.Fprintf(&list, "<package name=%q/>", p)
	}
	return `<?xml version="1.0" encoding="utf-8"?>
<image schemaversion="7.6" name="test-machine">
  <description type="system"><author>A</author><contact>a@example.org</contact><specification>test</specification></description>
  <preferences>
    <version>1.0.0</version><packagemanager>apt</packagemanager><locale>en_US</locale><keytable>us</keytable><timezone>Europe/Berlin</timezone>
    <type image="oem" filesystem="ext4" firmware="uefi"><oemconfig><oem-resize>false</oem-resize></oemconfig></type>
  </preferences>
  <users><user name="ann" password="secret" pwdformat="plain" groups="users,sudo" shell="/bin/bash"/></users>
  <repository type="apt-deb"><source path="http://deb.debian.org/debian"/></repository>
  <packages type="image">` + list.String() + `</packages>
</image>
`
}

// withRepository adds what the element <repository> of Debian lacks in machine.
func withRepository(text string) string {
	return strings.Replace(text, `<repository type="apt-deb">`, `<repository type="apt-deb" distribution="bookworm" components="main">`, 1)
}

func overlayOf(t *testing.T, tree *layers.Tree, image *description.Image, dir, cache string) (*Result, string) {
	t.Helper()
	var log bytes.Buffer
	start := time.Now()
	result, err := Overlay(t.Context(), Request{
		Tree: tree, Description: image, Dir: filepath.Join(dir, "root"), PackageCache: cache, Repro: repro.New(time.Unix(1700000000, 0), "test"),
		Log: slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelInfo})),
	})
	if err != nil {
		t.Fatalf("%v\n%s", err, log.String())
	}
	var usage unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_CHILDREN, &usage); err != nil {
		t.Fatal(err)
	}
	t.Logf("overlay took %.1f s, programs %.1f s of CPU time: %q", time.Since(start).Seconds(),
		float64(usage.Utime.Nano()+usage.Stime.Nano())/1e9, result.Ran)
	return result, log.String()
}

// TestRealMachine makes a container into a machine with Debian's own packages.
func TestRealMachine(t *testing.T) {
	testenv.NeedRoot(t)
	name := debianTar(t)
	digest := testRealMachine(t, name)
	if want := os.Getenv(digestVariable); want != "" && digest != want {
		t.Errorf("as an ordinary user the tree has the digest %s, as root %s", digest, want)
	}
	if testenv.InUserNamespace() || t.Failed() {
		return
	}
	t.Run("ordinary user", func(t *testing.T) {
		testenv.OrdinaryUser(t).RunAgain(t, "TestRealMachine", debianVariable+"="+name, digestVariable+"="+digest)
	})
}

// digestVariable tells the test as an ordinary user which tree root has got.
const digestVariable = "IMGBUILD_TEST_DIGEST"

// testRealMachine returns the digest of the tree that it made.
func testRealMachine(t *testing.T, name string) string {
	t.Helper()
	tree := layerstest.Open(t, name)
	text := withRepository(machine("linux-image-cloud-amd64", "initramfs-tools", "zstd", "grub-efi-amd64-bin", "grub-pc-bin", "systemd-sysv", "openssh-server", "locales", "tzdata", "sudo"))
	image := load(t, map[string]string{"config.xml": text, "config.sh": "#!/bin/bash\nset -e\n. /.kconfig\n. /.profile\nbaseInsertService ssh\necho $kiwi_iname > /etc/made-by\n", "root/etc/motd": "hello\n"})
	dir, cache := fastDir(t), fastDir(t)
	before := read(t, tree, "etc/resolv.conf") + read(t, tree, "etc/hosts")
	planned(t, tree, image, cache)
	result, log := overlayOf(t, tree, image, dir, cache)
	verified(t, result)
	got := result.Tree
	t.Log(log)
	kernels := FindKernels(got)
	if len(kernels) != 1 || kernels[0].Initrd == "" || kernels[0].Modules == "" {
		t.Errorf("kernels %+v", kernels)
	}
	for name, want := range map[string]string{
		"etc/motd": "hello\n", "etc/made-by": "test-machine\n", "etc/timezone": "Europe/Berlin\n", "etc/locale.conf": "LANG=en_US.UTF-8\n", "etc/machine-id": "",
	} {
		if diff := cmp.Diff(want, read(t, got, name)); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
	if diff := cmp.Diff(before, read(t, got, "etc/resolv.conf")+read(t, got, "etc/hosts")); diff != "" {
		t.Error(diff)
	}
	for _, name := range []string{"etc/ssh/ssh_host_rsa_key", "usr/sbin/policy-rc.d", "var/log/dpkg.log", "var/log/apt/history.log", "etc/subuid-", "var/lib/dpkg/status-old", "etc/resolv.conf.imgbuild-saved"} {
		now, err := got.Lookup(name)
		if before, _ := tree.Lookup(name); err == nil && now != before {
			t.Errorf("/%s was left", name)
		}
	}
	if n, err := got.Lookup("etc/systemd/system/multi-user.target.wants/ssh-host-keys.service"); err != nil || !n.IsSymlink() {
		t.Errorf("the unit for ssh host keys is not enabled: %v", err)
	}
	if n, err := got.Lookup("home/ann"); err != nil || n.UID != 1000 || n.GID != 100 {
		t.Errorf("home of ann: %+v, %v", n, err)
	}
	if n, err := got.Lookup("etc/systemd/system/multi-user.target.wants/ssh.service"); err != nil || !n.IsSymlink() {
		t.Errorf("ssh.service is not enabled: %v", err)
	}
	if !strings.Contains(read(t, got, "etc/shadow"), "ann:$6$") {
		t.Error("ann has no password")
	}
	packages, err := InstalledPackages(got)
	if err != nil || len(packages) < 100 {
		t.Errorf("%d packages, %v", len(packages), err)
	}
	if !testenv.InUserNamespace() {
		second, _ := overlayOf(t, tree, image, fastDir(t), cache)
		sameTrees(t, got, second.Tree)
	}
	// What is there already needs nothing to run.
	image = load(t, map[string]string{"config.xml": text})
	again, _ := overlayOf(t, got, image, t.TempDir(), "")
	if again.Ran != nil || again.Dir != "" {
		t.Errorf("it ran %q in %q", again.Ran, again.Dir)
	}
	h := sha256.New()
	if err := layers.WriteTar(t.Context(), h, layers.Clamp(got, epoch()), layers.TarOptions{}); err != nil {
		t.Fatal(err)
	}
	return hex.EncodeToString(h.Sum(nil))
}

// epoch is the SOURCE_DATE_EPOCH of the tests.
func epoch() layers.Timespec { return layers.Timespec{Sec: 1700000000} }

// planned asks what would be installed.
func planned(t *testing.T, tree *layers.Tree, image *description.Image, cache string) {
	t.Helper()
	start := time.Now()
	plan, err := PlanOverlay(t.Context(), Request{Tree: tree, Description: image, PackageCache: cache, Repro: repro.New(time.Unix(1700000000, 0), "test")})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("planning took %.1f s:\n%s", time.Since(start).Seconds(), plan)
	if plan.Transaction == nil {
		t.Fatalf("what would be installed is unknown: %s", plan.Unknown)
	}
	kernels := 0
	for _, p := range plan.Transaction.Packages {
		if strings.HasPrefix(p.Name, "linux-image-6.") {
			kernels++
		}
	}
	if kernels != 1 || len(plan.Transaction.Packages) < 30 || plan.Transaction.Download() < 10e6 || plan.Transaction.Growth < 50e6 {
		t.Errorf("plan %+v", plan.Transaction)
	}
}

// verified compares what is found to be changed of the packages' files with what dpkg finds in the unpacked tree.
func verified(t *testing.T, result *Result) {
	t.Helper()
	packages, err := database.Open(result.Tree)
	if err != nil || packages == nil {
		t.Fatalf("%v, %v", packages, err)
	}
	start := time.Now()
	var out bytes.Buffer
	survey, err := packages.NewSurvey(nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := survey.Finish(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := survey.WriteVerified(&out); err != nil {
		t.Fatal(err)
	}
	t.Logf("verifying took %.1f s", time.Since(start).Seconds())
	want := testenv.Run(t, "dpkg", "--root="+result.Dir, "--verify")
	if diff := cmp.Diff(sortedLines(want), sortedLines(out.String())); diff != "" {
		t.Errorf("dpkg --verify says otherwise (-dpkg +ours): %s", diff)
	}
}

func sortedLines(text string) []string { return slices.Sorted(strings.Lines(text)) }

// sameTrees compares two builds of the same inputs, with times after SOURCE_DATE_EPOCH taken for equal as the images have them.
func sameTrees(t *testing.T, a, b *layers.Tree) {
	t.Helper()
	differences, err := layers.Diff(t.Context(), layers.Clamp(a, epoch()), layers.Clamp(b, epoch()))
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range differences {
		t.Errorf("/%s differs between two builds: %v %q", d.Path, d.Kind, d.What)
	}
}

func read(t *testing.T, tree *layers.Tree, name string) string {
	t.Helper()
	data, err := tree.ReadFile(name, 1<<30)
	if err != nil {
		return err.Error()
	}
	return string(data)
}

// TestRealDracut makes the initial RAM disk with dracut.
func TestRealDracut(t *testing.T) {
	testenv.NeedRoot(t)
	tree := layerstest.Open(t, debianTar(t))
	text := withRepository(machine("linux-image-cloud-amd64", "dracut", "zstd", "systemd-sysv"))
	result, _ := overlayOf(t, tree, load(t, map[string]string{"config.xml": text}), fastDir(t), "")
	kernels := FindKernels(result.Tree)
	if len(kernels) != 1 || !strings.HasPrefix(kernels[0].Initrd, "boot/initrd.img-") {
		t.Fatalf("kernels %+v", kernels)
	}
	// Where processor microcode is there, it comes first and is not compressed.
	if data := read(t, result.Tree, kernels[0].Initrd); !strings.Contains(data, "\x28\xb5\x2f\xfd") {
		t.Errorf("the initial RAM disk is not compressed with zstd: it begins with %x", data[:min(len(data), 16)])
	}
}
