package iso

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/imgbuild/imgbuild/description"
	"github.com/imgbuild/imgbuild/imagetypes/image"
	"github.com/imgbuild/imgbuild/imagetypes/internal/imagetest"
	"github.com/imgbuild/imgbuild/internal/testenv"
	"github.com/imgbuild/imgbuild/layers"
)

// fakeDracut writes down what it was asked for as the initial RAM disk, the last but one of its arguments.
const fakeDracut = `#!/bin/sh
set -e
asked="$*"
while [ $# -gt 2 ]; do shift; done
echo "$asked" > "$1"
ls /usr/lib/dracut/modules.d >> "$1"
`

// smallFiles make a tree that a live ISO can be built of. The value of a program is its content.
func smallFiles() map[string]string {
	return map[string]string{
		"boot/vmlinuz-6.1.0-9": "old kernel", "boot/vmlinuz-6.1.0-10": "kernel", "boot/initrd.img-6.1.0-10": "the disk's initrd",
		"usr/bin/dracut": fakeDracut, "usr/sbin/sfdisk": "x", "usr/sbin/fdisk": "x", "usr/sbin/partprobe": "x", "usr/sbin/mkfs.ext4": "x", "usr/sbin/mkfs.xfs": "x", "usr/bin/sha256sum": "x",
		"usr/lib/dracut/modules.d/90kiwi-live/module-setup.sh": "x", "usr/lib/dracut/modules.d/90dmsquash-live/module-setup.sh": "x",
		"usr/lib/dracut/modules.d/98pollcdrom/module-setup.sh": "x",
		"etc/os-release": "ID=debian\n", "etc/hosts": "127.0.0.1 localhost\n", "image/config.xml": "x",
	}
}

// smallTree is such a tree, with more files or without some ("-").
func smallTree(t *testing.T, more map[string]string) *layers.Tree {
	t.Helper()
	busybox, err := os.ReadFile(testenv.NeedProgram(t, "busybox"))
	if err != nil {
		t.Fatal(err)
	}
	edit := layers.NewTree().Edit(layers.Timespec{Sec: 1600000000})
	files := smallFiles()
	for name, text := range more {
		files[name] = text
	}
	for _, name := range []string{"sh", "ls", "cat"} {
		files["bin/"+name] = string(busybox)
	}
	for name, text := range files {
		if text == "-" {
			continue
		}
		if err := edit.WriteFile(name, []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, dir := range []string{"proc", "sys", "dev", "run", "tmp"} {
		if err := edit.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return edit.Tree()
}

func needTools(t *testing.T) {
	t.Helper()
	testenv.NeedPrograms(t, "xorriso", "osirrox", "mkfs.vfat", "mcopy", "grub-mkimage", "unsquashfs")
}

// extract lets xorriso unpack an ISO image.
func extract(t *testing.T, file string) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "medium")
	testenv.Run(t, "osirrox", "-indev", "stdio:"+file, "-extract", "/", dir)
	t.Cleanup(func() { testenv.Run(t, "chmod", "-R", "u+w", dir) })
	return dir
}

// names lists the files of a directory, without GRUB's many modules.
func names(t *testing.T, dir string) []string {
	t.Helper()
	var list []string
	err := filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() && filepath.Ext(name) != ".mod" && filepath.Ext(name) != ".lst" && filepath.Ext(name) != ".o" {
			list = append(list, strings.TrimPrefix(name, dir+"/"))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return list
}

func read(t *testing.T, elements ...string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(elements...))
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// sameTree compares what unsquashfs unpacks with the tree that was to be in it, entry by entry.
func sameTree(t *testing.T, squashfs string, want *layers.Tree) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "root")
	testenv.Run(t, "unsquashfs", "-no-progress", "-quiet", "-no-exit-code", "-dest", dir, squashfs)
	got, _, err := layers.ScanDir(t.Context(), dir, layers.ScanOptions{KeepVolatile: true})
	if err != nil {
		t.Fatal(err)
	}
	differences, err := layers.Diff(t.Context(), holdable(t, want), got)
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range differences {
		t.Error(d)
	}
}

// holdable is a tree as squashfs can hold it, without devices where unsquashfs can't make them.
func holdable(t *testing.T, tree *layers.Tree) *layers.Tree {
	t.Helper()
	tree, err := image.WithoutBuildFiles(tree)
	if err != nil {
		t.Fatal(err)
	}
	noDevices := testenv.InUserNamespace()
	edit := tree.Edit(layers.Timespec{})
	err = tree.Walk(func(name string, n *layers.Node) error {
		if n.IsDevice() && noDevices {
			return edit.Remove(name)
		}
		xattrs := slices.DeleteFunc(slices.Clone(n.Xattrs), func(x layers.Xattr) bool { return strings.HasPrefix(x.Name, "system.") })
		if n.MTime.Nsec == 0 && len(xattrs) == len(n.Xattrs) {
			return nil
		}
		return edit.Change(name, func(n *layers.Node) { n.MTime.Nsec, n.Xattrs = 0, xattrs })
	})
	if err != nil {
		t.Fatal(err)
	}
	return edit.Tree()
}

// TestMedium reads a medium with foreign programs.
func TestMedium(t *testing.T) {
	needTools(t)
	testenv.NeedRoot(t)
	var archive bytes.Buffer
	w := tar.NewWriter(&archive)
	for name, text := range map[string]string{"README": "read me", "boot/extra": "more"} {
		if err := w.WriteHeader(&tar.Header{Name: name, Size: int64(len(text)), Mode: 0o644}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	const script = "set -e\ntest \"$2\" = 1\necho '# edited' >> ${1#iso:}/boot/grub/grub.cfg\n"
	tree := smallTree(t, map[string]string{"image/config-cdroot.tar": archive.String(), "image/edit_boot_config.sh": script})
	r := request(t, tree, `flags="dmsquash" volid="LIVE_1" publisher="Ä publisher" mediacheck="true" kernelcmdline="quiet"`,
		`<bootloader name="grub2" timeout="3" console="serial"/>`)
	file, inside := build(t, r)
	dir := extract(t, file)
	settings, err := newSettings(r.Description, r.Repro)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		"EFI/BOOT/BOOTX64.EFI", "LiveOS/squashfs.img", "README", "boot/" + settings.id, "boot/extra", "boot/grub/grub.cfg", "boot/grub/loopback.cfg",
		"boot/mbrid", "boot/x86_64/loader/eltorito.img", "boot/x86_64/loader/initrd", "boot/x86_64/loader/linux",
	}
	if diff := cmp.Diff(want, names(t, dir)); diff != "" {
		t.Error(diff)
	}
	if read(t, dir, "boot/x86_64/loader/linux") != "kernel" {
		t.Error("the kernel is not the newest one")
	}
	made := read(t, dir, "boot/x86_64/loader/initrd")
	for _, word := range []string{"--no-hostonly", "--add dmsquash-live pollcdrom imgbuild-live ", "/run/imgbuild/live/initrd 6.1.0-10", "95imgbuild-live"} {
		if !strings.Contains(made, word) {
			t.Errorf("dracut was run with %s", made)
		}
	}
	menu := read(t, dir, "boot/grub/grub.cfg")
	for _, text := range []string{
		"set timeout=3", "menuentry 'Test VM'", "menuentry 'Failsafe -- Test VM'", "menuentry 'Mediacheck'", "root=live:CDLABEL=LIVE_1 rd.live.image rd.live.overlay.overlayfs=1 quiet \"$isoboot\"\n",
		"quiet " + failsafeWords + " \"$isoboot\"\n", "mediacheck=1", "menuentry 'Boot from Hard Disk'", "# edited\n", "terminal_output serial",
	} {
		if !strings.Contains(menu, text) {
			t.Errorf("the menu lacks %q:\n%s", text, menu)
		}
	}
	if got := read(t, dir, "boot/mbrid"); got != settings.id {
		t.Errorf("boot/mbrid is %s", got)
	}
	if _, err := inside.Lookup(ownModuleDir()); err == nil {
		t.Error("dracut's module is left in the root tree")
	}
	sameTree(t, filepath.Join(dir, "LiveOS/squashfs.img"), inside)
	checkHeaders(t, file, settings.id)
}

// checkHeaders asks xorriso and sfdisk what they see.
func checkHeaders(t *testing.T, file, id string) {
	t.Helper()
	report := testenv.Run(t, "xorriso", "-indev", "stdio:"+file, "-pvd_info", "-report_el_torito", "plain", "-report_system_area", "plain")
	for _, text := range []string{
		"Volume Id    : LIVE_1", "Publisher Id : _ PUBLISHER", "App Id       : " + strings.ToUpper(id), "Preparer Id  : IMGBUILD",
		"El Torito boot img :   1  BIOS  y   none", "El Torito boot img :   2  UEFI  y   none", "grub2-mbr", "MBR partition table",
	} {
		if !strings.Contains(report, text) {
			t.Errorf("xorriso does not see %q:\n%s", text, report)
		}
	}
	// Joliet's header has letters of all languages.
	if publisher := testenv.Run(t, "blkid", "-p", "-o", "value", "-s", "PUBLISHER_ID", file); publisher != "\u00c4 publisher\n" {
		t.Errorf("blkid sees the publisher %q", publisher)
	}
	table := testenv.Run(t, "sfdisk", "--dump", file)
	if !strings.Contains(table, "label: dos") || !strings.Contains(table, "label-id: "+id) || !strings.Contains(table, "type=ef") {
		t.Errorf("sfdisk sees:\n%s", table)
	}
	if data := read(t, file); data[0x1b0] == 0 && data[0] == 0 {
		t.Error("the MBR has no code")
	}
}

// TestApplicationID gives xorriso the description's identifier or else the medium's number, as KIWI does.
func TestApplicationID(t *testing.T) {
	m := &medium{live: &live{settings: &settings{typ: &description.Type{}, id: "0x01234567"}}}
	for _, want := range []string{m.id, "An application"} {
		args := m.arguments("out.iso", "", "")
		if at := slices.Index(args, "-A"); at < 0 || args[at+1] != want {
			t.Errorf("xorriso gets %q", args)
		}
		m.typ.ApplicationID = "An application"
	}
}

// TestContainer looks into the squashfs of KIWI's way.
func TestContainer(t *testing.T) {
	needTools(t)
	testenv.NeedPrograms(t, "e2fsck", "debugfs", "mke2fs")
	testenv.NeedRoot(t)
	tree := smallTree(t, map[string]string{"usr/lib/dracut/modules.d/00bash/module-setup.sh": "x"}) // as Debian's dracut, which also has dash
	file, _ := build(t, request(t, tree, `firmware="efi" hybridpersistent="true" hybridpersistent_filesystem="xfs"`, ""))
	dir := extract(t, file)
	root := filepath.Join(t.TempDir(), "root")
	testenv.Run(t, "unsquashfs", "-no-progress", "-quiet", "-dest", root, filepath.Join(dir, "LiveOS/squashfs.img"))
	inner := filepath.Join(root, "LiveOS/rootfs.img")
	testenv.Run(t, "e2fsck", "-fn", inner)
	if out := testenv.Run(t, "debugfs", "-R", "cat /etc/hosts", inner); !strings.Contains(out, "localhost") {
		t.Errorf("the file system has no /etc/hosts: %s", out)
	}
	if menu := read(t, dir, "boot/grub/grub.cfg"); !strings.Contains(menu, "root=live:CDLABEL=CDROM rd.live.image rd.live.overlay.persistent rd.live.overlay.cowfs=xfs \"$isoboot\"\n") {
		t.Errorf("the menu is\n%s", menu)
	}
	if made := read(t, dir, "boot/x86_64/loader/initrd"); !strings.Contains(made, "--add kiwi-live pollcdrom bash --omit dash /run") {
		t.Errorf("dracut was run with %s", made)
	}
}

// TestSecureBoot looks for the signed programs where they must be.
func TestSecureBoot(t *testing.T) {
	needTools(t)
	testenv.NeedRoot(t)
	tree := smallTree(t, map[string]string{
		"usr/lib/shim/shimx64.efi.signed": "shim", "usr/lib/grub/x86_64-efi-signed/grubx64.efi.signed": "signed GRUB", "usr/lib/shim/mmx64.efi.signed": "manager",
	})
	file, _ := build(t, request(t, tree, `flags="dmsquash" firmware="uefi"`, ""))
	dir := extract(t, file)
	esp := filepath.Join(t.TempDir(), "esp")
	report := testenv.Run(t, "sfdisk", "--json", file)
	start := partitionStart(t, report)
	for name, want := range map[string]string{"BOOT/BOOTX64.EFI": "shim", "BOOT/grubx64.efi": "signed GRUB", "BOOT/mmx64.efi": "manager"} {
		if got := read(t, dir, "EFI", name); got != want {
			t.Errorf("%s on the medium is %q", name, got)
		}
		testenv.Run(t, "mcopy", "-n", "-o", "-i", file+"@@"+start, "::EFI/"+name, esp)
		if got := read(t, esp); got != want {
			t.Errorf("%s on the EFI system partition is %q", name, got)
		}
	}
	if stub := read(t, dir, "EFI/debian/grub.cfg"); !strings.Contains(stub, "search --no-floppy --file") || !strings.Contains(stub, "configfile $prefix/grub.cfg") {
		t.Errorf("GRUB would read %s", stub)
	}
}

// partitionStart returns where the second partition begins, in bytes, as mtools take it.
func partitionStart(t *testing.T, report string) string {
	t.Helper()
	_, second, ok := strings.Cut(report, `"start": `)
	if ok {
		_, second, ok = strings.Cut(second, `"start": `)
	}
	sectors, _, found := strings.Cut(second, ",")
	if !ok || !found {
		t.Fatalf("sfdisk sees %s", report)
	}
	return sectors + "s"
}

// TestReproducible builds twice, of different copies.
func TestReproducible(t *testing.T) {
	needTools(t)
	testenv.NeedPrograms(t, "mke2fs")
	testenv.NeedRoot(t)
	for _, flags := range []string{flagOverlay, flagDMSquash} {
		var images [][]byte
		for range 2 {
			file, _ := build(t, request(t, smallTree(t, nil), `mediacheck="true" flags="`+flags+`"`, ""))
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			images = append(images, data)
			time.Sleep(1100 * time.Millisecond)
		}
		if !bytes.Equal(images[0], images[1]) {
			t.Errorf("two builds with flags=%q differ", flags)
		}
	}
}

func TestRefused(t *testing.T) {
	testenv.NeedPrograms(t, "xorriso", "mkfs.vfat", "mcopy", "grub-mkimage", "mke2fs")
	const dmsquash = `flags="dmsquash" `
	for name, c := range map[string]struct {
		remove, attributes, content, want string
	}{
		"kernel":      {"boot/vmlinuz-6.1.0-10 boot/vmlinuz-6.1.0-9", dmsquash, "", "no kernel"},
		"dracut":      {"usr/bin/dracut", dmsquash, "", "add the package dracut"},
		"dracut-live": {"usr/lib/dracut/modules.d/90dmsquash-live/module-setup.sh", dmsquash, "", "dracut-live (Debian"},
		"kiwi-live":   {"usr/lib/dracut/modules.d/90kiwi-live/module-setup.sh", "", "", "kiwi-dracut-live (Debian"},
		"sfdisk":      {"usr/sbin/sfdisk", dmsquash + `hybridpersistent="true"`, "", "the package fdisk"},
		"partprobe":   {"usr/sbin/partprobe", `hybridpersistent="true"`, "", "the package parted"},
		"xfs":         {"usr/sbin/mkfs.xfs", dmsquash + `hybridpersistent="true" hybridpersistent_filesystem="xfs"`, "", "the package xfsprogs"},
		"sha256sum":   {"usr/bin/sha256sum", dmsquash + `mediacheck="true"`, "", "the package coreutils"},
		"checkisomd5": {"", dmsquash + `kernelcmdline="quiet rd.live.check"`, "", "the package isomd5sum"},
		"luks":        {"", `luks="x"`, "", "not supported"},
		"firmware":    {"", `firmware="ofw"`, "", "use bios, efi or uefi"},
		"publisher":   {"", `publisher="` + strings.Repeat("x", 129) + `"`, "", "at most 128 bytes of it, and this has 129"},
		"boot loader": {"", "", `<bootloader name="isolinux"/>`, "use grub2"},
	} {
		t.Run(name, func(t *testing.T) {
			more := map[string]string{}
			for _, file := range strings.Fields(c.remove) {
				more[file] = "-"
			}
			r := imagetest.Request(t, smallTree(t, more), "iso", c.attributes, c.content)
			err := Builder{}.Check(t.Context(), r)
			if err == nil || !strings.Contains(err.Error(), c.want) || !strings.HasPrefix(err.Error(), "config.xml:") {
				t.Errorf("error is %v", err)
			}
			var tree *image.TreeError
			if c.remove != "" && !errors.As(err, &tree) {
				t.Errorf("%T is no *image.TreeError", err)
			}
		})
	}
}

// TestDrivers looks for what the kernel must have to read the medium.
func TestDrivers(t *testing.T) {
	testenv.NeedPrograms(t, "xorriso", "mkfs.vfat", "mcopy", "grub-mkimage")
	const dir = "lib/modules/6.1.0-10/"
	files := map[string]string{
		dir + "modules.builtin": "kernel/drivers/block/loop.ko\nkernel/fs/isofs/isofs.ko\n", dir + "kernel/fs/overlayfs/overlay.ko.zst": "x", dir + "kernel/fs/squashfs/squashfs.ko": "x",
	}
	check := func() error {
		return Builder{}.Check(t.Context(), imagetest.Request(t, smallTree(t, files), "iso", `flags="dmsquash"`, ""))
	}
	if err := check(); err != nil {
		t.Error(err)
	}
	delete(files, dir+"kernel/fs/squashfs/squashfs.ko")
	var missing *image.TreeError
	if err := check(); !errors.As(err, &missing) || !strings.Contains(err.Error(), "fs/squashfs/squashfs.ko of the kernel 6.1.0-10") {
		t.Errorf("error is %v", err)
	}
}

// TestSmallESP asks for an EFI system partition that is too small.
func TestSmallESP(t *testing.T) {
	needTools(t)
	testenv.NeedRoot(t)
	r := request(t, smallTree(t, map[string]string{"usr/bin/dracut": "#!/bin/sh\nexit 3\n"}), `flags="dmsquash" efifatimagesize="1"`, "")
	_, _, err := Builder{}.Prepare(t.Context(), r) // before dracut runs
	if err == nil || !strings.Contains(err.Error(), "config.xml:") || !strings.Contains(err.Error(), "make it at least") {
		t.Errorf("error is %v", err)
	}
	entries, err := os.ReadDir(r.Workdir)
	if err != nil || len(entries) > 0 {
		t.Errorf("left behind: %v, %v", entries, err)
	}
	for _, size := range []string{"3", "8", "9"} {
		file, _ := build(t, request(t, smallTree(t, nil), `flags="dmsquash" efifatimagesize="`+size+`"`, ""))
		var table struct {
			PartitionTable struct{ Partitions []struct{ Start, Size int64 } }
		}
		if err := json.Unmarshal([]byte(testenv.Run(t, "sfdisk", "--json", file)), &table); err != nil {
			t.Fatal(err)
		}
		esp := table.PartitionTable.Partitions[1]
		if fmt.Sprint(esp.Size*512>>20) != size {
			t.Errorf("the partition has %d sectors, not %s MiB", esp.Size, size)
		}
		alone := filepath.Join(t.TempDir(), "esp")
		testenv.Run(t, "dd", "if="+file, "of="+alone, "bs=512", fmt.Sprintf("skip=%d", esp.Start), fmt.Sprintf("count=%d", esp.Size))
		testenv.Run(t, "fsck.fat", "-n", alone)
	}
}

// TestFailingDracut shows what dracut says, and leaves nothing.
func TestFailingDracut(t *testing.T) {
	needTools(t)
	testenv.NeedRoot(t)
	r := request(t, smallTree(t, map[string]string{"usr/bin/dracut": "#!/bin/sh\necho no room >&2\nexit 3\n"}), `flags="dmsquash"`, "")
	_, _, err := Builder{}.Prepare(t.Context(), r)
	if err == nil || !strings.Contains(err.Error(), "no room") || !strings.Contains(err.Error(), "6.1.0-10") {
		t.Errorf("error is %v", err)
	}
	if entries, err := os.ReadDir(r.Workdir); err != nil || len(entries) > 0 {
		t.Errorf("left behind: %v, %v", entries, err)
	}
	r = request(t, smallTree(t, map[string]string{"usr/bin/dracut": "#!/bin/sh\nexit 3\n", "image/config-cdroot.tar.gz": "no archive"}), `flags="dmsquash"`, "")
	if _, _, err := (Builder{}).Prepare(t.Context(), r); err == nil || !strings.Contains(err.Error(), "config-cdroot.tar.gz") {
		t.Errorf("a broken archive is not told first: %v", err)
	}
	r.Runner = nil
	if _, _, err := (Builder{}).Prepare(t.Context(), r); err == nil || !strings.Contains(err.Error(), "can run programs") {
		t.Errorf("without a runner the error is %v", err)
	}
}

func TestPlan(t *testing.T) {
	testenv.NeedPrograms(t, "xorriso", "mkfs.vfat", "mcopy", "grub-mkimage")
	text, err := Builder{}.Plan(t.Context(), imagetest.Request(t, smallTree(t, nil), "iso", `flags="dmsquash"`, ""))
	if err != nil {
		t.Fatal(err)
	}
	for _, word := range []string{imagetest.BaseName + ".iso", "volume CDROM", "boots by: BIOS (GRUB from ", "UEFI (GRUB from ", "kernel: 6.1.0-10", "dmsquash-live", "root=live:CDLABEL=CDROM"} {
		if !strings.Contains(text, word) {
			t.Errorf("the plan lacks %q:\n%s", word, text)
		}
	}
}

// TestScripts lets shellcheck read the module for dracut.
func TestScripts(t *testing.T) {
	testenv.NeedProgram(t, "shellcheck")
	files, err := filepath.Glob("dracut/*.sh")
	if err != nil || len(files) < 4 {
		t.Fatal(files, err)
	}
	// Sourced files of dracut, its variables, and functions that dracut calls.
	testenv.Run(t, "shellcheck", append([]string{"--exclude=SC1091,SC2154,SC2317"}, files...)...)
}

// TestArm makes a medium for another architecture, of signed programs.
func TestArm(t *testing.T) {
	needTools(t)
	testenv.NeedRoot(t)
	tree := smallTree(t, map[string]string{"usr/lib/shim/shimaa64.efi.signed": "shim", "usr/lib/grub/arm64-efi-signed/grubaa64.efi.signed": "signed GRUB"})
	r := request(t, tree, `flags="dmsquash" firmware="uefi"`, "")
	r.Description = imagetest.Describe(t, "aarch64", "iso", `flags="dmsquash" firmware="uefi"`, "")
	file, _ := build(t, r)
	want := []string{"EFI/BOOT/BOOTAA64.EFI", "EFI/BOOT/grub.cfg", "EFI/BOOT/grubaa64.efi", "EFI/debian/grub.cfg"}
	if diff := cmp.Diff(want, names(t, extract(t, file))[:4]); diff != "" {
		t.Error(diff)
	}
	report := testenv.Run(t, "xorriso", "-indev", "stdio:"+file, "-report_el_torito", "plain")
	if !strings.Contains(report, "El Torito boot img :   1  UEFI  y") || strings.Contains(report, "BIOS") {
		t.Errorf("xorriso sees:\n%s", report)
	}
	if table := testenv.Run(t, "sfdisk", "--dump", file); !strings.Contains(table, "type=ef") {
		t.Errorf("sfdisk sees:\n%s", table)
	}
	bios := imagetest.Describe(t, "aarch64", "iso", `firmware="bios"`, "")
	if _, err := newSettings(bios, r.Repro); err == nil || !strings.Contains(err.Error(), "no BIOS for aarch64") {
		t.Errorf("error is %v", err)
	}
}
