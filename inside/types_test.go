package inside

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/imgbuild/imgbuild/description"
	"github.com/imgbuild/imgbuild/imagetypes"
	"github.com/imgbuild/imgbuild/imagetypes/image"
	"github.com/imgbuild/imgbuild/internal/diskformat"
	"github.com/imgbuild/imgbuild/internal/helperkernel"
	"github.com/imgbuild/imgbuild/internal/repro"
	"github.com/imgbuild/imgbuild/internal/testenv"
	"github.com/imgbuild/imgbuild/layers"
	"github.com/imgbuild/imgbuild/layers/container"
	"github.com/imgbuild/imgbuild/layers/layerstest"
	"github.com/imgbuild/imgbuild/registry/archive"
	"github.com/imgbuild/imgbuild/registry/reference"
	"github.com/imgbuild/imgbuild/rootfs/sandbox"
)

// variant is one way to build an image type, and how what is read back may differ from what went in.
type variant struct {
	name       string
	attributes string // of the type element, besides image
	content    string // of the type element
	needs      []string
	kernel     bool                        // a helper kernel takes part
	adds       []string                    // what the image has besides, perhaps
	lacks      func(*layers.Node)          // what the format can't hold or its reader does not show, of each entry
	without    []string                    // what is left out
	links      bool                        // hard links are lost
	base       bool                        // derived from a container
	want       func(*layers.Tree) []string // instead of the tree: files that it has
}

// extFiles is what an ext file system has of its own.
func extFiles() []string { return []string{"lost+found"} }

// diskFiles is what a disk's root file system has besides the tree.
func diskFiles() []string {
	return append(extFiles(), "boot/mbrid", "config.bootoptions", "config.partids", "etc/fstab")
}

// diskVariants are disks of all formats and file systems. They have no boot loader, which needs a real system and puts files into the tree.
func diskVariants() []variant {
	var list []variant
	for _, format := range diskformat.All() {
		v := variant{name: format.Name, attributes: `firmware="custom" filesystem="ext4"`, adds: diskFiles(), needs: []string{"mke2fs", "qemu-img"}}
		if format.Name != "raw" {
			v.attributes += fmt.Sprintf(" format=%q", format.Name)
		}
		list = append(list, v)
	}
	return append(list,
		variant{name: "xfs", attributes: `firmware="custom" filesystem="xfs"`, adds: diskFiles(), needs: []string{"mkfs.xfs"}, kernel: true},
		variant{name: "btrfs", attributes: `firmware="custom" filesystem="btrfs"`, adds: diskFiles(), needs: []string{"mkfs.btrfs"}, kernel: true},
	)
}

// kernelFiles are what a distribution for WSL leaves out.
func kernelFiles() []string { return []string{"boot/vmlinuz-6.1.0", "boot/initrd.img-6.1.0"} }

// variants are the ways to build each image type of the table.
func variants(dir string) map[string][]variant {
	noAttributes := func(n *layers.Node) { n.Xattrs = nil }
	archives := []variant{{needs: []string{"xz"}}}
	kis := []variant{
		{name: "ext4", attributes: `filesystem="ext4"`, adds: extFiles(), needs: []string{"xz", "mke2fs"}},
		{name: "compressed squashfs", attributes: `filesystem="squashfs" compressed="true"`, needs: []string{"xz", "sqfs2tar"}},
		{name: "kernel and initrd", needs: []string{"xz"}, want: func(tree *layers.Tree) []string { return tree.Root().Names() }},
	}
	delta := variant{name: "delta", attributes: `derived_from="file:///base" delta_root="true"`, base: true}
	iso := []string{"xorriso", "bsdtar", "grub-mkimage", "sqfs2tar", "mkfs.vfat", "mcopy"}
	ext := []variant{{adds: extFiles(), needs: []string{"mke2fs"}}}
	cramfs := variant{needs: []string{"mkfs.cramfs"}, kernel: true, links: true, lacks: func(n *layers.Node) {
		n.Xattrs, n.MTime, n.Mode = nil, layers.Timespec{}, n.Mode&^0o6000
		if n.IsSymlink() {
			n.Mode |= 0o777
		}
	}}
	return map[string][]variant{
		"oem": diskVariants(),
		"iso": {
			{name: "overlay", attributes: `flags="overlay" firmware="bios"`, needs: append(iso, "mke2fs"), adds: extFiles()},
			{name: "dmsquash", attributes: `flags="dmsquash" firmware="bios" mediacheck="true"`, needs: iso},
		},
		"docker": {{}, delta}, "oci": {{}, delta},
		"tbz": archives, "tar": {{}}, "tar.gz": {{}}, "tar.zst": {{}}, "cpio": {{lacks: noAttributes}},
		"kis": kis, "pxe": kis,
		"appx": {{attributes: fmt.Sprintf("metadata_path=%q", dir), without: kernelFiles(), needs: []string{"bsdtar"},
			content: `<containerconfig name="d"><history author="A" created_by="CN=A" application_id="D" package_version="1.2.3.4" launcher="d.exe">d</history></containerconfig>`}},
		"wsl":  {{adds: []string{"etc/wsl-distribution.conf"}, without: kernelFiles()}},
		"ext2": ext, "ext3": ext, "ext4": ext,
		"xfs":      {{needs: []string{"mkfs.xfs"}, kernel: true}},
		"btrfs":    {{needs: []string{"mkfs.btrfs"}, kernel: true}},
		"reiserfs": {{needs: []string{"mkreiserfs"}, kernel: true}},
		"squashfs": {{needs: []string{"sqfs2tar"}}},
		"erofs":    {{needs: []string{"mkfs.erofs"}, kernel: true}},
		"cramfs":   {cramfs},
	}
}

// system is a sample that every builder takes for a system, though nothing of it can start.
func system(t testing.TB) *layers.Tree {
	t.Helper()
	edit := sample(t).Edit(clock())
	for name, text := range map[string]string{
		"boot/vmlinuz-6.1.0": "kernel", "boot/initrd.img-6.1.0": "initrd", "usr/bin/dracut": "#!/bin/sh\n", "usr/bin/sha256sum": "x",
		"usr/lib/dracut/modules.d/90kiwi-live/module-setup.sh": "x", "usr/lib/dracut/modules.d/90dmsquash-live/module-setup.sh": "x",
	} {
		if err := edit.WriteFile(name, []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return edit.Tree()
}

// runner runs nothing but makes what dracut would.
type runner struct{}

func (runner) Run(_ context.Context, tree *layers.Tree, spec sandbox.Spec) (*layers.Tree, error) {
	return tree, os.WriteFile(filepath.Join(spec.Binds[0].Source, "initrd"), []byte("initrd"), 0o600)
}

func (runner) RunOutside(_ context.Context, tree *layers.Tree, _ sandbox.Spec) (*layers.Tree, error) {
	return tree, nil
}

// metadata is what a package for Windows has besides.
func metadata(t testing.TB) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range map[string]string{
		"d.exe":            "launcher",
		"AppxManifest.xml": `<Package><Identity Name="d" Version="0.0.0.0"/><Applications><Application Id="d" Executable="d.exe"/></Applications></Package>`,
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// create builds an image and returns its first result.
func create(t testing.TB, tree *layers.Tree, kind string, v variant, base *image.Base) string {
	t.Helper()
	text := fmt.Sprintf(`<?xml version="1.0" encoding="utf-8"?>
<image schemaversion="7.6" name="Test">
  <description type="system"><author>A</author><contact>a@example.org</contact><specification>test</specification></description>
  <preferences><version>1.2.3</version><packagemanager>apt</packagemanager><type image=%q %s>%s</type></preferences>
  <repository type="apt-deb"><source path="http://deb.example.org/debian"/></repository>
  <packages type="image"><package name="bash"/></packages>
</image>
`, kind, v.attributes, v.content)
	doc, err := description.LoadFS(fstest.MapFS{"config.xml": {Data: []byte(text)}}, "", description.LoadOptions{})
	if err != nil {
		t.Fatal(err)
	}
	resolved, err := doc.Resolve(description.Selection{Arch: "x86_64", SkipChecks: []string{description.AllChecks}})
	if err != nil {
		t.Fatal(err)
	}
	results, err := imagetypes.Create(t.Context(), imagetypes.CreateOptions{
		Tree: tree, Description: resolved, Base: base, Runner: runner{}, TargetDir: t.TempDir(), Repro: repro.New(time.Unix(1700000000, 0), "test"),
	})
	if err != nil {
		t.Fatal(err)
	}
	return results.Files[0].Path
}

// baseContainer makes a container for others to be derived from.
func baseContainer(t testing.TB) *image.Base {
	t.Helper()
	edit := layers.NewTree().Edit(clock())
	if err := edit.WriteFile("opt/base", []byte("base"), 0o644); err != nil {
		t.Fatal(err)
	}
	file := create(t, edit.Tree(), "oci", variant{}, nil)
	img, err := archive.Open(t.Context(), reference.Reference{Transport: reference.OCIArchive, Path: file}, archive.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { img.Close() })
	tree, err := container.Open(t.Context(), img, nil, container.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { tree.Close() })
	return &image.Base{Name: "base:1", Image: img, Tree: tree.Tree}
}

// TestEveryImageType builds all image types of the table in all disk formats and opens them: the tree is the one that went in, entry by entry.
func TestEveryImageType(t *testing.T) {
	cases := variants(metadata(t))
	tree := system(t)
	for _, kind := range imagetypes.All() {
		if len(cases[kind.Name]) == 0 {
			t.Errorf("no image of type %s is opened here: add it to variants", kind.Name)
		}
		for _, v := range cases[kind.Name] {
			t.Run(strings.TrimSuffix(kind.Name+" "+v.name, " "), func(t *testing.T) {
				testenv.NeedPrograms(t, v.needs...)
				if v.kernel {
					needHelperKernel(t)
				}
				want := tree
				if kind.Name == "cramfs" { // it has groups up to 255
					want = layerstest.Changed(t, want, func(n *layers.Node) { n.GID %= 256 })
				}
				var base *image.Base
				if v.base {
					base = baseContainer(t)
				}
				file := create(t, want, kind.Name, v, base)
				image := open(t, Name{File: file})
				if image.Kind == "" {
					t.Error("the image has no kind")
				}
				got := image.Tree
				if v.want != nil {
					checkNames(t, v.want(got), filepath.Base(file))
					return
				}
				got = leave(t, got, v.adds...)
				want, got = leave(t, want, v.without...), leave(t, got, v.without...)
				if v.links {
					want, got = unlinked(t, want), unlinked(t, got)
				}
				if v.lacks != nil {
					want, got = layerstest.Changed(t, want, v.lacks), layerstest.Changed(t, got, v.lacks)
				}
				layerstest.Same(t, want, got)
			})
		}
	}
}

// leave returns the tree without entries, of which it need not have any.
func leave(t testing.TB, tree *layers.Tree, names ...string) *layers.Tree {
	t.Helper()
	for _, name := range names {
		if _, err := tree.Lookup(name); err == nil {
			tree = without(t, tree, name)
		}
	}
	return tree
}

// checkNames expects a kernel-initrd-system's own files.
func checkNames(t *testing.T, names []string, archive string) {
	t.Helper()
	stem, _, _ := strings.Cut(archive, ".tar")
	if want := []string{stem + "-6.1.0.kernel", stem + ".initrd"}; !slices.Equal(names, want) {
		t.Errorf("%q, not %q", names, want)
	}
}

func needHelperKernel(t testing.TB) {
	t.Helper()
	if _, err := helperkernel.Available(nil); err != nil {
		testenv.Missing(t, "%v", err)
	}
}

// TestCompressedResults opens what a bundle has compressed.
func TestCompressedResults(t *testing.T) {
	testenv.NeedPrograms(t, "xz", "zstd", "gzip", "mke2fs", "qemu-img")
	tree := system(t)
	for _, format := range []string{"raw", "vhd-fixed"} {
		v := variant{attributes: `firmware="custom" filesystem="ext4"`}
		if format != "raw" {
			v.attributes += fmt.Sprintf(" format=%q", format)
		}
		file := create(t, tree, "oem", v, nil)
		testenv.Run(t, "xz", "-0", "--keep", file)
		testenv.Run(t, "gzip", "-1", "--keep", file)
		testenv.Run(t, "zstd", "-q", file)
		for _, ending := range []string{".xz", ".gz", ".zst"} {
			t.Run(format+ending, func(t *testing.T) {
				layerstest.Same(t, tree, leave(t, open(t, Name{File: file + ending}).Tree, diskFiles()...))
			})
		}
	}
}

// pack writes files into a tar, as it is or compressed by gzip.
func pack(t testing.TB, name string, compress bool, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	args := []string{"--format=gnu", "--sparse", "-C", dir, "-cf", filepath.Join(t.TempDir(), name)}
	if compress {
		args[4] = "-czf"
	}
	for to, from := range files {
		in, err := os.Open(from)
		if err != nil {
			t.Fatal(err)
		}
		out, err := os.Create(filepath.Join(dir, to))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(out, in); err != nil {
			t.Fatal(err)
		}
		in.Close()
		out.Close()
		args = append(args, to)
	}
	testenv.Run(t, "tar", args...)
	return args[5]
}

// TestCloudArchives opens the archives in which clouds and virtual machine monitors want disks: the disk in them is what is shown.
func TestCloudArchives(t *testing.T) {
	testenv.NeedPrograms(t, "tar", "gzip", "mke2fs", "qemu-img")
	tree := system(t)
	disk := func(format string, content string) string {
		v := variant{attributes: `firmware="custom" filesystem="ext4" ` + format, content: content}
		return create(t, tree, "oem", v, nil)
	}
	raw, qcow2 := disk("", ""), disk(`format="qcow2"`, "")
	stream := disk(`format="vmdk"`, `<machine><vmdisk controller="lsilogic" id="0" diskmode="streamOptimized"/></machine>`)
	text := filepath.Join(t.TempDir(), "text")
	if err := os.WriteFile(text, []byte("{}"), 0o644); err != nil {
		t.Fatal(err)
	}
	for name, file := range map[string]string{
		"gce":                pack(t, "image.tar.gz", true, map[string]string{"disk.raw": raw, "manifest.json": text}),
		"ova":                pack(t, "machine.ova", false, map[string]string{"machine.ovf": text, "machine.mf": text, "machine-disk1.vmdk": stream}),
		"vagrant libvirt":    pack(t, "libvirt.box", true, map[string]string{"metadata.json": text, "Vagrantfile": text, "box.img": qcow2}),
		"vagrant virtualbox": pack(t, "virtualbox.box", true, map[string]string{"metadata.json": text, "Vagrantfile": text, "box.ovf": text, "box.vmdk": stream}),
	} {
		t.Run(name, func(t *testing.T) {
			layerstest.Same(t, tree, leave(t, open(t, Name{File: file}).Tree, diskFiles()...))
			list, err := Partitions(t.Context(), Name{File: file}, Options{})
			if err != nil || len(list) == 0 || !list[len(list)-1].Root {
				t.Fatal(list, err)
			}
			by := Name{File: file, Parts: []string{fmt.Sprint(list[len(list)-1].Number)}}
			layerstest.Same(t, tree, leave(t, open(t, by).Tree, diskFiles()...))
			if names := open(t, Name{File: file, Parts: []string{outside}}).Root().Names(); len(names) < 2 || strings.Contains(strings.Join(names, " "), "etc") {
				t.Errorf("the archive itself has %q", names)
			}
		})
	}
}
