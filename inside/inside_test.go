package inside

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/imgbuild/imgbuild/imagetypes/filesystem"
	"github.com/imgbuild/imgbuild/internal/fat"
	"github.com/imgbuild/imgbuild/internal/partition"
	"github.com/imgbuild/imgbuild/internal/repro"
	"github.com/imgbuild/imgbuild/internal/testenv"
	"github.com/imgbuild/imgbuild/internal/userns"
	"github.com/imgbuild/imgbuild/layers"
	"github.com/imgbuild/imgbuild/layers/layerstest"
	"github.com/imgbuild/imgbuild/rootfs/sandbox"
)

// TestMain brings an ordinary user into a user namespace, as the program does where it has to.
func TestMain(m *testing.M) {
	sandbox.Init()
	userns.MustEnter()
	os.Exit(m.Run())
}

func TestOrdinaryUser(t *testing.T) {
	if os.Getuid() != 0 || testenv.InUserNamespace() {
		t.Skip("the other tests run as an ordinary user already")
	}
	testenv.OrdinaryUser(t).RunAgain(t, "TestExtracted")
}

// clock is the time of everything in these tests, in whole seconds so that every format can hold it.
func clock() layers.Timespec { return layers.Timespec{Sec: 1600000000} }

// sample is a tree with something of everything that most formats hold.
func sample(t testing.TB) *layers.Tree {
	t.Helper()
	edit := layers.NewTree().Edit(clock())
	root := &layers.Node{Mode: layers.TypeDir | 0o755, MTime: clock()}
	must := func(err error) {
		if err != nil {
			t.Fatal(err)
		}
	}
	must(edit.Put(".", root))
	must(edit.WriteFile("etc/os-release", []byte("ID=debian\n"), 0o644))
	must(edit.WriteFile("etc/shadow", []byte("root:*\n"), 0o640))
	must(edit.Change("etc/shadow", func(n *layers.Node) { n.GID = 42 }))
	must(edit.WriteFile("usr/bin/ping", []byte(strings.Repeat("program", 30000)), 0o4755))
	must(edit.Change("usr/bin/ping", func(n *layers.Node) {
		n.Xattrs = []layers.Xattr{{Name: "security.capability", Value: "\x01\x00\x00\x02\x00\x20\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"}, {Name: "user.note", Value: "text"}}
	}))
	must(edit.Link("usr/bin/ping", "usr/bin/ping4"))
	must(edit.Symlink("usr/bin", "bin"))
	must(edit.MkdirAll("home/user", 0o700))
	must(edit.Change("home/user", func(n *layers.Node) { n.UID, n.GID = 1000, 1000 }))
	must(edit.WriteFile("home/user/a name with \u00e4 and spaces", nil, 0o600))
	must(edit.Put("home/user/zero", &layers.Node{Mode: layers.TypeChar | 0o666, Major: 1, Minor: 5, MTime: clock()}))
	must(edit.Put("home/user/queue", &layers.Node{Mode: layers.TypeFIFO | 0o644, MTime: clock()}))
	return edit.Tree()
}

// open opens an image until the test ends.
func open(t testing.TB, name Name) *Image {
	t.Helper()
	image, err := Open(t.Context(), name, Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := image.Close(); err != nil {
			t.Error(err)
		}
	})
	return image
}

// without returns the tree without what a file system itself puts there.
func without(t testing.TB, tree *layers.Tree, name string) *layers.Tree {
	t.Helper()
	edit := tree.Edit(layers.Timespec{})
	if err := edit.Remove(name); err != nil {
		t.Fatal(err)
	}
	return edit.Tree()
}

// unlinked returns the tree with each hard link as a file of its own.
func unlinked(t testing.TB, tree *layers.Tree) *layers.Tree {
	t.Helper()
	edit := tree.Edit(layers.Timespec{})
	err := tree.Walk(func(name string, n *layers.Node) error {
		own := *n
		return edit.Put(name, &own)
	})
	if err != nil {
		t.Fatal(err)
	}
	return edit.Tree()
}

// newDisk writes a disk with an EFI system partition and a root file system and returns its path.
func newDisk(t testing.TB, tree *layers.Tree, scheme partition.Scheme) string {
	t.Helper()
	testenv.NeedPrograms(t, "mke2fs", "mkfs.vfat", "mcopy")
	ids := repro.New(time.Unix(1700000000, 0), "test")
	plan, err := partition.Layout(partition.Spec{Scheme: scheme, Partitions: []partition.Want{
		{Name: "p.UEFI", Type: partition.ESP(), Size: 2 << 20}, {Name: "p.lxroot", Type: partition.Linux(), Size: 16 << 20},
	}}, ids)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	name := filepath.Join(dir, "disk.raw")
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Truncate(plan.DiskSize); err != nil {
		t.Fatal(err)
	}
	if err := plan.Write(f); err != nil {
		t.Fatal(err)
	}
	esp := filepath.Join(dir, "esp")
	err = fat.Write(t.Context(), esp, fat.Spec{Size: 2 << 20, Label: "EFI", Time: time.Unix(1600000000, 0)}, fstest.MapFS{"EFI/BOOT/bootx64.efi": {Data: []byte("loader")}}, dir)
	if err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(esp)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt(data, plan.Partitions[0].Start); err != nil {
		t.Fatal(err)
	}
	root := plan.Partitions[1]
	if err := filesystem.Write(t.Context(), filesystem.Env{Repro: ids}, f, root.Start, root.Size, tree, filesystem.Spec{Type: "ext4", Label: "ROOT"}); err != nil {
		t.Fatal(err)
	}
	return name
}

func TestDisks(t *testing.T) {
	testenv.NeedPrograms(t, "qemu-img")
	tree := sample(t)
	raw := newDisk(t, tree, partition.GPT)
	names := map[string]string{"gpt": raw, "qcow2": filepath.Join(t.TempDir(), "disk.qcow2")}
	testenv.Run(t, "qemu-img", "convert", "-O", "qcow2", raw, names["qcow2"])
	names["mbr"] = newDisk(t, tree, partition.MBR)
	for format, name := range names {
		t.Run(format, func(t *testing.T) {
			layerstest.Same(t, tree, without(t, open(t, Name{File: name}).Tree, "lost+found"))
			image := open(t, Name{File: name, Parts: []string{"1"}})
			got, err := image.ReadFile("EFI/BOOT/bootx64.efi", 100)
			if err != nil {
				got, err = image.ReadFile("EFI/BOOT/BOOTX64.EFI", 100)
			}
			if err != nil || string(got) != "loader" {
				t.Errorf("%q, %v", got, err)
			}
			list, err := Partitions(t.Context(), Name{File: name}, Options{})
			if err != nil || len(list) != 2 {
				t.Fatal(list, err)
			}
			if list[0].Label != "EFI" || list[0].Root || list[1].Label != "ROOT" || !list[1].Root || list[1].Holds != "ext file system" {
				t.Errorf("%+v", list)
			}
		})
	}
	for _, part := range []string{"p.UEFI", "EFI"} {
		if _, err := open(t, Name{File: raw, Parts: []string{part}}).Lookup("EFI"); err != nil {
			t.Error(err)
		}
	}
	_, err := Open(t.Context(), Name{File: raw, Parts: []string{"7"}}, Options{})
	if err == nil || !strings.Contains(err.Error(), `no partition "7"; it has 1 p.UEFI, 2 p.lxroot`) {
		t.Error(err)
	}
}

// TestImageInImage opens a file system in a squashfs in an ISO image, as live systems have it.
func TestImageInImage(t *testing.T) {
	testenv.NeedPrograms(t, "xorriso", "bsdtar", "sqfs2tar", "mke2fs")
	tree := sample(t)
	data, err := os.ReadFile(create(t, tree, "ext4", variant{}, nil))
	if err != nil {
		t.Fatal(err)
	}
	edit := layers.NewTree().Edit(clock())
	if err := edit.WriteFile("LiveOS/rootfs.img", data, 0o644); err != nil {
		t.Fatal(err)
	}
	squashfs := create(t, edit.Tree(), "squashfs", variant{}, nil)
	iso := filepath.Join(t.TempDir(), "live.iso")
	testenv.Run(t, "xorriso", "-as", "mkisofs", "-quiet", "-R", "-o", "stdio:"+iso, "-graft-points", "LiveOS/squashfs.img="+squashfs)
	for _, name := range []string{iso, iso + "#LiveOS/squashfs.img", iso + "#LiveOS/squashfs.img#LiveOS/rootfs.img"} {
		image := open(t, ParseName(name))
		layerstest.Same(t, tree, without(t, image.Tree, "lost+found"))
		if want := "ISO image, squashfs, ext file system"; image.Kind != want {
			t.Errorf("%s: %q, not %q", name, image.Kind, want)
		}
	}
	for part, want := range map[string]string{"#.": "LiveOS/squashfs.img", "#LiveOS/squashfs.img#.": "LiveOS/rootfs.img"} {
		if _, err := open(t, ParseName(iso+part)).Lookup(want); err != nil {
			t.Errorf("%s: %v", part, err)
		}
	}
	if _, err := Open(t.Context(), ParseName(iso+"#LiveOS"), Options{}); err == nil || !strings.Contains(err.Error(), "LiveOS is a directory: write #.:/LiveOS") {
		t.Errorf("a directory as a part: %v", err)
	}
	data, err = os.ReadFile(iso)
	if err != nil {
		t.Fatal(err)
	}
	cut, left := filepath.Join(t.TempDir(), "cut.iso"), bytes.Index(data, []byte("hsqs"))+1000
	if err := os.WriteFile(cut, data[:left], 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(t.Context(), Name{File: cut}, Options{}); err == nil || !strings.Contains(err.Error(), fmt.Sprintf("it is cut off: the ISO image has %d bytes, and %d are there", len(data), left)) {
		t.Errorf("a part of an ISO image: %v", err)
	}
	_, err = Open(t.Context(), ParseName(iso+"#nothing"), Options{})
	if err == nil || !strings.Contains(err.Error(), `there is no part "nothing"`) {
		t.Error(err)
	}
}

// TestPartitionsOfAMedium lists those of an ISO image that is a disk too, as sfdisk does, and opens them.
func TestPartitionsOfAMedium(t *testing.T) {
	testenv.NeedPrograms(t, "xorriso", "bsdtar", "sqfs2tar", "mkfs.vfat", "mcopy", "sfdisk")
	dir, tree := t.TempDir(), sample(t)
	squashfs, esp := create(t, tree, "squashfs", variant{}, nil), filepath.Join(dir, "esp")
	spec := fat.Spec{Size: 2 << 20, Label: "BOOT", Time: time.Unix(1600000000, 0)}
	if err := fat.Write(t.Context(), esp, spec, fstest.MapFS{"EFI/BOOT/BOOTX64.EFI": {Data: []byte("loader")}}, dir); err != nil {
		t.Fatal(err)
	}
	for scheme, options := range map[string][]string{"MBR": nil, "GPT": {"-appended_part_as_gpt"}} {
		iso := filepath.Join(dir, scheme+".iso")
		args := append([]string{"-as", "mkisofs", "-quiet", "-R", "-o", iso, "-partition_offset", "16", "-append_partition", "2", "0xef", esp}, options...)
		testenv.Run(t, "xorriso", append(args, "-e", "--interval:appended_partition_2:all::", "-no-emul-boot", "-graft-points", "LiveOS/squashfs.img="+squashfs)...)
		var want struct {
			Table struct {
				Partitions []struct{ Start, Size int64 } // 512 bytes each
			} `json:"partitiontable"`
		}
		if err := json.Unmarshal([]byte(testenv.Run(t, "sfdisk", "--json", iso)), &want); err != nil {
			t.Fatal(err)
		}
		list, err := Partitions(t.Context(), Name{File: iso}, Options{})
		if err != nil || len(list) < 2 || len(list) != len(want.Table.Partitions) {
			t.Fatalf("%s: %+v, %v", scheme, list, err)
		}
		for i, p := range want.Table.Partitions {
			if list[i].Start != p.Start*512 || list[i].Size != p.Size*512 || list[i].Root != (i == 0) {
				t.Errorf("%s: %+v, not %+v", scheme, list[i], p)
			}
		}
		if list[0].Holds != isoName || list[1].Holds != fatName || list[1].Label != "BOOT" || list[1].Type != partition.ESP().Name {
			t.Errorf("%s: %+v", scheme, list)
		}
		for _, part := range []string{"", "#1", "#LiveOS/squashfs.img", "#1#LiveOS/squashfs.img"} {
			layerstest.Same(t, tree, open(t, ParseName(iso+part)).Tree)
		}
		for _, part := range []string{"#2", "#BOOT"} {
			if got, err := open(t, ParseName(iso+part)).ReadFile("EFI/BOOT/BOOTX64.EFI", 100); err != nil || string(got) != "loader" {
				t.Errorf("%s%s: %q, %v", scheme, part, got, err)
			}
		}
	}
	plain := filepath.Join(dir, "plain.iso")
	testenv.Run(t, "xorriso", "-as", "mkisofs", "-quiet", "-R", "-o", plain, "-graft-points", "file="+esp)
	if _, err := Partitions(t.Context(), Name{File: plain}, Options{}); !errors.Is(err, ErrNotDisk) {
		t.Errorf("an ISO image without a table: %v", err)
	}
}

// TestInitialRAMDisk opens what begins with microcode and goes on compressed.
func TestInitialRAMDisk(t *testing.T) {
	testenv.NeedPrograms(t, "zstd")
	edit := layers.NewTree().Edit(clock())
	if err := edit.WriteFile("kernel/x86/microcode/AuthenticAMD.bin", []byte("microcode"), 0o644); err != nil {
		t.Fatal(err)
	}
	tree := layerstest.Changed(t, sample(t), func(n *layers.Node) { n.Xattrs = nil })
	first, second := create(t, edit.Tree(), "cpio", variant{}, nil), create(t, tree, "cpio", variant{}, nil)
	testenv.Run(t, "zstd", "-q", second)
	name := filepath.Join(t.TempDir(), "initrd")
	testenv.Run(t, "sh", "-c", fmt.Sprintf("cat %s %s.zst > %s", first, second, name))
	got := open(t, Name{File: name}).Tree
	if text, err := got.ReadFile("kernel/x86/microcode/AuthenticAMD.bin", 100); err != nil || string(text) != "microcode" {
		t.Errorf("%q, %v", text, err)
	}
	layerstest.Same(t, tree, without(t, got, "kernel"))
}

// TestExtracted opens what a program unpacks into a directory where there is no helper kernel. Owners matter then.
func TestExtracted(t *testing.T) {
	testenv.NeedPrograms(t, "mkfs.cramfs", "fsck.cramfs", "mkfs.erofs", "fsck.erofs")
	tree := layerstest.Changed(t, without(t, sample(t), "home/user/zero"), func(n *layers.Node) { n.GID %= 256 })
	for _, kind := range []string{"cramfs", "erofs"} {
		image, err := Open(t.Context(), Name{File: create(t, tree, kind, variant{}, nil)}, Options{Kernel: "none"})
		if err != nil {
			t.Fatal(err)
		}
		if node, err := image.Lookup("home/user"); err != nil || node.UID != 1000 || node.Perm() != 0o700 {
			t.Errorf("%s: %+v, %v", kind, node, err)
		}
		if err := image.Close(); err != nil {
			t.Error(err)
		}
	}
}

// TestRefused gives reasons.
func TestRefused(t *testing.T) {
	testenv.NeedPrograms(t, "qemu-img")
	dir := t.TempDir()
	write := func(name string, data []byte) string {
		name = filepath.Join(dir, name)
		if err := os.WriteFile(name, data, 0o644); err != nil {
			t.Fatal(err)
		}
		return name
	}
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, bytes.Repeat([]byte("secret\n"), 1000), 0o600); err != nil {
		t.Fatal(err)
	}
	overlay, linked, twice := filepath.Join(dir, "overlay.qcow2"), filepath.Join(dir, "linked.qcow2"), filepath.Join(dir, "twice.qcow2")
	if err := os.Symlink(secret, filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	for _, on := range [][3]string{{overlay, "raw", secret}, {linked, "raw", "link"}, {twice, "qcow2", "overlay.qcow2"}} {
		testenv.Run(t, "qemu-img", "create", "-q", "-f", "qcow2", "-F", on[1], "-b", on[2], on[0])
	}
	descriptor := write("disk.vmdk", []byte("# Disk DescriptorFile\nversion=1\nCID=12345678\nparentCID=ffffffff\ncreateType=\"monolithicFlat\"\nRW 8 FLAT \"/etc/passwd\" 0\nddb.adapterType = \"ide\"\n"))
	for name, want := range map[string]string{
		overlay:                               "only a part of another one",
		linked:                                "only a part of another one",
		twice:                                 "only a part of another one",
		descriptor:                            "lies in a file elsewhere",
		write("luks", []byte("LUKS\xba\xbe")): "give a file with its passphrase",
		write("swap", append(make([]byte, 4086), "SWAPSPACE2"...)):       "there are no files in it",
		write("text", []byte("just a text")):                             "no image of a known type",
		write("greedy", []byte("\x28\xb5\x2f\xfd\x00\xa8\x0b\x00\x00x")): "greedy: decompressing it: its zstd asks for more than 256 MiB of memory", // 2 GiB
		write("cut", []byte("\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03")): "cut: decompressing it: unexpected EOF",
		write("empty", nil):           "no image of a known type",
		filepath.Join(dir, "missing"): "no such file",
	} {
		_, err := Open(t.Context(), Name{File: name}, Options{})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, not %q", name, err, want)
		}
	}
}

// TestDiskOnAnother opens a disk that has what differs from one beside it.
func TestDiskOnAnother(t *testing.T) {
	testenv.NeedPrograms(t, "qemu-img")
	dir := t.TempDir()
	base, over := filepath.Join(dir, "base.raw"), filepath.Join(dir, "over.qcow2")
	data := make([]byte, 1<<20)
	copy(data, "just a text")
	if err := os.WriteFile(base, data, 0o600); err != nil {
		t.Fatal(err)
	}
	testenv.Run(t, "qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b", "base.raw", over)
	if err := RefuseForeign(t.Context(), over, "qcow2"); err != nil {
		t.Error(err)
	}
	if _, err := Open(t.Context(), Name{File: over}, Options{}); err == nil || !strings.Contains(err.Error(), "no image of a known type") {
		t.Errorf("its content was not read: %v", err)
	}
}

func TestParseName(t *testing.T) {
	odd := filepath.Join(t.TempDir(), "odd#name")
	if err := os.WriteFile(odd, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	for text, want := range map[string]Name{
		"disk.raw":              {File: "disk.raw"},
		"disk.raw#2":            {File: "disk.raw", Parts: []string{"2"}},
		"disk.raw#2:/etc/fstab": {File: "disk.raw", Parts: []string{"2"}, Path: "etc/fstab"},
		"a.iso#b/c#d":           {File: "a.iso", Parts: []string{"b/c", "d"}},
		odd:                     {File: odd},
	} {
		got := ParseName(text)
		if got.File != want.File || !slices.Equal(got.Parts, want.Parts) || got.Path != want.Path {
			t.Errorf("%s: %+v", text, got)
		}
	}
}

// FuzzRecognize gives any bytes to what tells the types apart.
func FuzzRecognize(f *testing.F) {
	for _, format := range formats() {
		data := make([]byte, 70<<10)
		for _, m := range format.marks {
			if m.at >= 0 {
				copy(data[m.at:], m.bytes)
			}
		}
		f.Add(data)
	}
	f.Fuzz(func(_ *testing.T, data []byte) { recognize(bytes.NewReader(data), int64(len(data))) })
}
