package imagetypes

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/imgbuild/imgbuild/imagetypes/image"
	"github.com/imgbuild/imgbuild/imagetypes/internal/imagetest"
	"github.com/imgbuild/imgbuild/internal/repro"
	"github.com/imgbuild/imgbuild/internal/testenv"
	"github.com/imgbuild/imgbuild/internal/userns"
	"github.com/imgbuild/imgbuild/layers"
	"github.com/imgbuild/imgbuild/rootfs/sandbox"
)

// TestMain brings an ordinary user into a user namespace, as the commands do.
func TestMain(m *testing.M) {
	sandbox.Init()
	userns.MustEnter()
	os.Exit(m.Run())
}

// sameCase is how an image type is built in [TestEveryTypeTwice], or why it is not.
type sameCase struct {
	attributes, content string
	needs               []string // programs
	never               string   // why two results differ
}

// sameCases has every image type. APPX stands for the directory of a package's metadata.
func sameCases() map[string]sameCase {
	kernel := "a kernel writes it, and draws random numbers"
	grub := []string{"grub-mkimage", "mkfs.vfat", "mcopy", "mke2fs"}
	return map[string]sameCase{
		"oem":      {attributes: `filesystem="ext4" firmware="uefi"`, needs: grub},
		"iso":      {attributes: `flags="overlay" firmware="uefi" mediacheck="true"`, needs: append(grub, "xorriso")},
		"docker":   {content: `<containerconfig name="same"><labels><label name="a" value="b"/><label name="c" value="d"/></labels></containerconfig>`},
		"oci":      {content: `<containerconfig name="same"><environment><env name="A" value="b"/><env name="C" value="d"/></environment></containerconfig>`},
		"tbz":      {},
		"tar":      {},
		"tar.gz":   {},
		"tar.zst":  {},
		"cpio":     {},
		"kis":      {attributes: `filesystem="squashfs"`},
		"pxe":      {attributes: `filesystem="ext4"`, needs: []string{"mke2fs"}},
		"appx":     {attributes: `metadata_path="APPX"`, content: `<containerconfig name="same"><history author="A" created_by="CN=A" application_id="Distro" package_version="1.2.3.4" launcher="distro.exe">text</history></containerconfig>`},
		"wsl":      {},
		"ext2":     {needs: []string{"mke2fs"}},
		"ext3":     {needs: []string{"mke2fs"}},
		"ext4":     {needs: []string{"mke2fs"}},
		"squashfs": {},
		"erofs":    {needs: []string{"mkfs.erofs"}},
		"cramfs":   {needs: []string{"mkfs.cramfs"}},
		"xfs":      {never: kernel},
		"btrfs":    {never: kernel},
		"reiserfs": {never: kernel},
	}
}

// sumsVariable hands the digests of root's results, as JSON, to the run as an ordinary user.
const sumsVariable = "IMGBUILD_TEST_SUMS"

// TestEveryTypeTwice builds every image type two times: from root trees and into directories of other names, with one processor and with several, as
// root and as an ordinary user. All results of one type are the same, byte by byte.
func TestEveryTypeTwice(t *testing.T) {
	testenv.NeedRoot(t)
	cases := sameCases()
	sums := map[string]string{}
	for _, kind := range All() {
		c, ok := cases[kind.Name]
		if !ok {
			t.Errorf("the image type %s is not in the table of this test", kind.Name)
			continue
		}
		if c.never == "" {
			t.Run(kind.Name, func(t *testing.T) { sums[kind.Name] = buildTwice(t, kind, c) })
		}
	}
	if text := os.Getenv(sumsVariable); text != "" {
		roots := map[string]string{}
		if err := json.Unmarshal([]byte(text), &roots); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(roots, sums); diff != "" {
			t.Errorf("root and an ordinary user build other bytes: %s", diff)
		}
		return
	}
	if testenv.InUserNamespace() || t.Failed() {
		return
	}
	text, err := json.Marshal(sums)
	if err != nil {
		t.Fatal(err)
	}
	testenv.OrdinaryUser(t).RunAgain(t, t.Name(), sumsVariable+"="+string(text))
}

// buildTwice returns the digest of the results.
func buildTwice(t *testing.T, kind Type, c sameCase) string {
	testenv.NeedPrograms(t, c.needs...)
	var sums []string
	for _, processors := range []int{1, 2} {
		before := runtime.GOMAXPROCS(processors)
		sums = append(sums, buildSame(t, kind, c))
		runtime.GOMAXPROCS(before)
	}
	if sums[0] != sums[1] {
		t.Errorf("two builds differ: %q", sums)
	}
	return sums[0]
}

func buildSame(t *testing.T, kind Type, c sameCase) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), strings.Repeat("n", 1+len(kind.Name)))
	if _, err := layers.WriteDir(t.Context(), dir, sameTree(t, kind.Name), layers.DirOptions{}); err != nil {
		t.Fatal(err)
	}
	tree, _, err := layers.ScanDir(t.Context(), dir, layers.ScanOptions{})
	if err != nil {
		t.Fatal(err)
	}
	edit := tree.Edit(layers.Timespec{Sec: 1600000000})
	if err := edit.Put("etc/device", &layers.Node{Mode: layers.TypeChar | 0o640, UID: 3, GID: 5, Major: 1, Minor: 3, MTime: layers.Timespec{Sec: 1500000000}}); err != nil {
		t.Fatal(err)
	}
	if err := edit.Change(".", func(n *layers.Node) { n.MTime = layers.Timespec{Sec: 1600000000} }); err != nil {
		t.Fatal(err)
	}
	attributes := strings.ReplaceAll(c.attributes, "APPX", appxFiles(t))
	results, err := Create(t.Context(), CreateOptions{
		Tree: edit.Tree(), Description: imagetest.Describe(t, "x86_64", kind.Name, attributes, c.content),
		TargetDir: filepath.Join(t.TempDir(), "target"), Runner: pretendedDracut{}, Repro: repro.New(time.Unix(1700000000, 0), "same"),
	})
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.New()
	for _, file := range results.Files {
		f, err := os.Open(file.Path)
		if err != nil {
			t.Fatal(err)
		}
		n, err := io.Copy(sum, f)
		f.Close()
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(sum, "%s %d\n", filepath.Base(file.Path), n)
	}
	return fmt.Sprintf("%x", sum.Sum(nil))
}

// pretendedDracut is a runner of programs that only makes the initial RAM disk of a live ISO, and does it always in the same way.
type pretendedDracut struct{}

func (pretendedDracut) Run(_ context.Context, tree *layers.Tree, spec sandbox.Spec) (*layers.Tree, error) {
	for _, bind := range spec.Binds {
		if err := os.WriteFile(filepath.Join(bind.Source, "initrd"), []byte("initrd"), 0o644); err != nil {
			return nil, err
		}
	}
	return tree, nil
}

func (p pretendedDracut) RunOutside(ctx context.Context, tree *layers.Tree, spec sandbox.Spec) (*layers.Tree, error) {
	return p.Run(ctx, tree, spec)
}

// sameTree is a tree that every image type holds, with more for those that need it.
func sameTree(t *testing.T, kind string) *layers.Tree {
	t.Helper()
	edit := layers.NewTree().Edit(layers.Timespec{Sec: 1600000000, Nsec: 123456789})
	files := map[string]string{
		"etc/hosts": "localhost\n", "etc/os-release": "ID=debian\n", "etc/fstab": "# UNCONFIGURED\n", "etc/default/grub": "GRUB_TIMEOUT=9\n",
		"usr/bin/large": strings.Repeat("a program of some size ", 200000), "usr/share/doc/text": "text",
		"boot/vmlinuz-6.1.0-10": "kernel", "boot/initrd.img-6.1.0-10": "initrd",
		"var/lib/dpkg/status":            "Package: bash\nStatus: install ok installed\nVersion: 5.2-1\nArchitecture: amd64\nMaintainer: x\nDescription: shell\n",
		"var/lib/dpkg/info/bash.md5sums": "00000000000000000000000000000000  etc/hosts\n",
		"image/config.xml":               "x", "run/lock": "x",
	}
	if kind == "iso" {
		for _, name := range []string{"usr/bin/dracut", "usr/sbin/sfdisk", "usr/sbin/fdisk", "usr/sbin/partprobe", "usr/sbin/mkfs.ext4", "usr/bin/sha256sum",
			"usr/lib/dracut/modules.d/90kiwi-live/module-setup.sh", "usr/lib/dracut/modules.d/98pollcdrom/module-setup.sh"} {
			files[name] = "x"
		}
	}
	for name, text := range files {
		if err := edit.WriteFile(name, []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := edit.Link("etc/hosts", "etc/hosts.link"); err != nil {
		t.Fatal(err)
	}
	if err := edit.Symlink("large", "usr/bin/link"); err != nil {
		t.Fatal(err)
	}
	err := edit.Change("usr/share/doc/text", func(n *layers.Node) { n.UID, n.GID = 33, 34 })
	if err == nil && kind != "cramfs" {
		err = edit.Change("usr/bin/large", func(n *layers.Node) { n.Xattrs = []layers.Xattr{{Name: "user.note", Value: "yes"}} })
	}
	if err != nil {
		t.Fatal(err)
	}
	return edit.Tree()
}

// appxFiles makes the directory with what belongs to a package for Windows.
func appxFiles(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range map[string]string{
		"distro.exe": "program",
		"AppxManifest.xml": `<Package xmlns="http://schemas.microsoft.com/appx/manifest/foundation/windows10"><Identity Name="Example" Version="0.0.0.0" ProcessorArchitecture="x86" Publisher="CN=old"/>
<Applications><Application Id="old" Executable="old.exe"/></Applications></Package>`,
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

var _ image.Runner = pretendedDracut{}
