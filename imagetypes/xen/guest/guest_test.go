package guest

import (
	"errors"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/imgbuild/imgbuild/description"
	"github.com/imgbuild/imgbuild/imagetypes/disk"
	"github.com/imgbuild/imgbuild/imagetypes/filesystem"
	"github.com/imgbuild/imgbuild/imagetypes/image"
	"github.com/imgbuild/imgbuild/imagetypes/internal/imagetest"
	"github.com/imgbuild/imgbuild/imagetypes/kis"
	"github.com/imgbuild/imgbuild/internal/testenv"
	"github.com/imgbuild/imgbuild/layers"
)

const (
	anyGuest = "CONFIG_XEN=y\nCONFIG_XEN_PV=y\nCONFIG_XEN_PVH=y\n"
	onlyPV   = "CONFIG_XEN_PV=y\n# CONFIG_XEN_PVH is not set\n"
	onlyPVH  = "# CONFIG_XEN_PV is not set\nCONFIG_XEN_PVH=y\n"
	noGuest  = "# CONFIG_XEN is not set\n"
)

// sample is a small tree with a kernel that has the given settings; "" for settings that nobody knows.
func sample(t *testing.T, config string, without ...string) *layers.Tree {
	t.Helper()
	files := map[string]string{
		"boot/vmlinuz-6.1.0-9": "kernel", "boot/initrd.img-6.1.0-9": "initrd", "boot/config-6.1.0-9": config, "etc/hosts": "localhost", "image/config.xml": "x",
		"etc/os-release": "ID=debian\n",
	}
	if config == "" {
		delete(files, "boot/config-6.1.0-9")
	}
	for _, name := range without {
		delete(files, name)
	}
	edit := layers.NewTree().Edit(layers.Timespec{Sec: 1600000000})
	for name, data := range files {
		if err := edit.WriteFile(name, []byte(data), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return edit.Tree()
}

// builderOf wraps the builder of an image type.
func builderOf(kind string) Builder {
	switch kind {
	case "oem":
		return Builder{disk.Builder{}}
	case "kis", "pxe":
		return Builder{kis.Builder{}}
	}
	return Builder{filesystem.Builder{}}
}

// build builds a guest and returns the directory with the results, and them by their keys.
func build(t *testing.T, r *image.Request) (string, map[string]string) {
	t.Helper()
	builder := builderOf(r.Description.Type.Image)
	if err := builder.Check(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	results, err := builder.Build(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]string{}
	for _, a := range results {
		files[a.Key] = strings.TrimPrefix(a.File, imagetest.BaseName)
		if _, err := os.Stat(filepath.Join(r.Dir, a.File)); err != nil {
			t.Error(err)
		}
		if !a.UseForBundle {
			t.Errorf("%s does not go into bundles", a.File)
		}
	}
	return r.Dir, files
}

// TestGuests builds every kind of guest and has xl read its configuration.
func TestGuests(t *testing.T) {
	testenv.NeedPrograms(t, "mke2fs", "grub-mkimage", "mkfs.vfat", "mcopy")
	for _, platform := range []string{"i386-pc", "x86_64-efi", "x86_64-xen"} {
		testenv.NeedFile(t, "/usr/lib/grub/"+platform+"/kernel.img")
	}
	xl := imagetest.XL(t)
	const machine = `<machine memory="300" ncpus="2"><vmnic interface="xenbr1" mac="00:16:3e:01:02:03"/></machine>`
	for name, c := range map[string]struct {
		kind, attributes, content, config string
		files                             []string
		want                              func(g imagetest.Guest) bool
	}{
		"file system, by its kernel": {"ext4", "", machine, anyGuest, []string{"-6.1.0-9.kernel", ".ext4", ".initrd", ".xenconfig"}, func(g imagetest.Guest) bool {
			return g.Info.Type == "pvh" && g.Build.Memory == 300<<10 && g.Build.CPUs == 2 && g.Build.Kernel == imagetest.BaseName+"-6.1.0-9.kernel" &&
				g.Build.Ramdisk == imagetest.BaseName+".initrd" && g.Build.Cmdline == "root=/dev/xvda1 rw console=hvc0" && g.Disks[0].Device == "xvda1" &&
				g.Disks[0].Target == imagetest.BaseName+".ext4" && g.NICs[0].MAC == "00:16:3e:01:02:03" && g.NICs[0].Bridge == "xenbr1"
		}},
		"file system, an old kernel": {"ext3", "", machine, onlyPV, []string{"-6.1.0-9.kernel", ".ext3", ".initrd", ".xenconfig"}, func(g imagetest.Guest) bool {
			return g.Info.Type == "pv" && g.Build.Cmdline == "root=/dev/xvda1 rw console=hvc0"
		}},
		"file system, pygrub": {"ext4", "", `<machine memory="300" xen_loader="pygrub"/>`, anyGuest, []string{".ext4", ".xenconfig"}, func(g imagetest.Guest) bool {
			return g.Info.Type == "pv" && g.Build.Bootloader == "pygrub" && g.Build.Kernel == ""
		}},
		"file system, pygrub, PVH": {"ext4", "", `<machine memory="300" xen_loader="pygrub"/>`, onlyPVH, []string{".ext4", ".xenconfig"}, func(g imagetest.Guest) bool {
			return g.Info.Type == "pvh" && g.Build.Cmdline == "console=hvc0"
		}},
		"disk, by its kernel": {"oem", `filesystem="ext4" format="qcow2" kernelcmdline="quiet"`, `<machine memory="300"><vmdisk device="/dev/xvdb"/></machine>`, anyGuest,
			[]string{"-6.1.0-9.kernel", ".initrd", ".qcow2", ".xenconfig"}, func(g imagetest.Guest) bool {
				return g.Info.Type == "pvh" && g.Disks[0].Device == "xvdb" && g.Disks[0].Format == "qcow2" && strings.HasPrefix(g.Build.Cmdline, "root=UUID=") &&
					strings.HasSuffix(g.Build.Cmdline, " ro quiet console=hvc0")
			}},
		"disk, pvgrub": {"oem", `filesystem="ext3" bootpartition="true" bootfilesystem="ext4" format="vhd-fixed"`, `<machine memory="300" xen_loader="pvgrub"/>`, anyGuest,
			[]string{".pvgrub", ".vhdfixed", ".xenconfig"}, func(g imagetest.Guest) bool { return g.Disks[0].Format == "vhd" && g.Build.Ramdisk == "" }},
		"disk, firmware": {"oem", `filesystem="ext4"`, `<machine memory="300" xen_loader="hvmloader"><vmdvd controller="ide" id="1"/><vmnic interface="0" driver="e1000"/></machine>`, noGuest,
			[]string{".raw", ".xenconfig"}, func(g imagetest.Guest) bool {
				return g.Info.Type == "hvm" && g.Build.Kernel == "" && g.Build.HVM.Serial == "pty" && g.Build.HVM.BIOS == "" && len(g.Disks) == 2 && g.Disks[1].CDROM == 1 && g.NICs[0].Model == "e1000"
			}},
		"disk, UEFI alone": {"oem", `filesystem="ext4" firmware="efi" target_blocksize="4096"`, `<machine memory="300" xen_loader="hvmloader"/>`, anyGuest,
			[]string{".raw", ".xenconfig"}, func(g imagetest.Guest) bool { return g.Build.HVM.BIOS == "ovmf" }},
		"kernel-initrd-system": {"kis", `filesystem="ext4"`, machine, anyGuest, []string{".tar.xz", ".xenconfig"}, func(g imagetest.Guest) bool {
			return g.Info.Type == "pvh" && g.Disks[0].Target == imagetest.BaseName && strings.HasPrefix(g.Build.Cmdline, "root=UUID=") && g.Build.Ramdisk == imagetest.BaseName+".initrd"
		}},
		"a system without an identifier": {"kis", `filesystem="squashfs"`, machine, anyGuest, []string{".tar.xz", ".xenconfig"}, func(g imagetest.Guest) bool {
			return strings.HasPrefix(g.Build.Cmdline, "root=/dev/xvda1 ") && strings.HasSuffix(g.Build.Cmdline, "console=hvc0")
		}},
		"kernel and initrd alone": {"kis", ``, machine, anyGuest, []string{".tar.xz", ".xenconfig"}, func(g imagetest.Guest) bool { return len(g.Disks) == 0 && g.Build.Kernel != "" }},
		"nobody knows the kernel": {"ext4", "", machine, "", []string{"-6.1.0-9.kernel", ".ext4", ".initrd", ".xenconfig"}, func(g imagetest.Guest) bool { return g.Info.Type == "pvh" }},
		"entries": {"ext4", "", `<machine><vmconfig-entry>type="pv"</vmconfig-entry><vmconfig-entry>on_crash = 'preserve'</vmconfig-entry></machine>`, anyGuest,
			[]string{"-6.1.0-9.kernel", ".ext4", ".initrd", ".xenconfig"}, func(g imagetest.Guest) bool {
				return g.Info.Type == "pv" && g.OnCrash == "preserve" && g.Build.Memory == 512<<10
			}},
		"limits": {"ext4", "", `<machine memory="300" max_memory="400" ncpus="1" max_cpu="3"><vmdisk device="/dev/xvdc2"/></machine>`, anyGuest,
			[]string{"-6.1.0-9.kernel", ".ext4", ".initrd", ".xenconfig"}, func(g imagetest.Guest) bool {
				return g.Build.MaxMemory == 400<<10 && g.Build.CPUs == 3 && g.Disks[0].Device == "xvdc2" && strings.Contains(g.Build.Cmdline, "root=/dev/xvdc2")
			}},
	} {
		t.Run(name, func(t *testing.T) {
			dir, files := build(t, imagetest.Request(t, sample(t, c.config), c.kind, c.attributes, c.content))
			if diff := cmp.Diff(c.files, slices.Sorted(maps.Values(files))); diff != "" {
				t.Error(diff)
			}
			config := filepath.Join(dir, imagetest.BaseName+".xenconfig")
			g := xl(config)
			if !c.want(g) {
				text, _ := os.ReadFile(config)
				t.Errorf("xl reads %+v from\n%s", g, text)
			}
			for _, d := range g.Disks {
				if _, err := os.Stat(filepath.Join(dir, d.Target)); err != nil && c.kind != "kis" && d.CDROM == 0 {
					t.Errorf("the guest's disk is not there: %v", err)
				}
			}
		})
	}
}

// TestFilesBesideTheImage compares them with those of the tree.
func TestFilesBesideTheImage(t *testing.T) {
	testenv.NeedProgram(t, "mke2fs")
	dir, files := build(t, imagetest.Request(t, sample(t, anyGuest), "ext2", "", `<machine/>`))
	for key, want := range map[string]string{keyKernel: "kernel", keyInitrd: "initrd"} {
		data, err := os.ReadFile(filepath.Join(dir, imagetest.BaseName+files[key]))
		if err != nil || string(data) != want {
			t.Errorf("%s: %q, %v", key, data, err)
		}
	}
	_, files = build(t, imagetest.Request(t, sample(t, anyGuest+"CONFIG_XEN_BLKDEV_FRONTEND=y\n", "boot/initrd.img-6.1.0-9"), "ext2", "", `<machine/>`))
	if files[keyInitrd] != "" {
		t.Error("there is an initial RAM disk from nowhere")
	}
}

// TestRefusals is about what no host of Xen could start.
func TestRefusals(t *testing.T) {
	testenv.NeedPrograms(t, "mke2fs", "xz")
	for name, c := range map[string]struct {
		kind, attributes, content, config string
		place                             string // "" for an error of the tree
		want                              []string
	}{
		"loader":           {"ext4", "", `<machine xen_loader="hvmloader"/>`, anyGuest, "xen_loader", []string{"hvmloader starts disks", `image="oem"`}},
		"no memory":        {"ext4", "", `<machine memory="0"/>`, anyGuest, "memory", []string{"without memory", `memory="512"`}},
		"too little":       {"ext4", "", `<machine memory="512" max_memory="100"/>`, anyGuest, "max_memory", []string{"100 MiB", "512 MiB"}},
		"too few":          {"ext4", "", `<machine ncpus="4" max_cpu="2"/>`, anyGuest, "max_cpu", []string{"4 processors"}},
		"group address":    {"ext4", "", `<machine><vmnic interface="0" mac="01:00:5e:00:00:01"/></machine>`, anyGuest, "mac", []string{"group", "00:16:3e"}},
		"same address":     {"ext4", "", `<machine><vmnic interface="0" mac="00:16:3E:00:00:01"/><vmnic interface="1" mac="00:16:3e:00:00:01"/></machine>`, anyGuest, "mac", []string{"two network cards"}},
		"bridge":           {"ext4", "", `<machine><vmnic interface="br0,script=/bin/evil"/></machine>`, anyGuest, "interface", []string{"no name of a bridge", "xenbr0"}},
		"mode":             {"ext4", "", `<machine><vmnic interface="0" mode="telepathy"/></machine>`, anyGuest, "mode", []string{"telepathy", "bridged, nat"}},
		"driver":           {"ext4", "", `<machine><vmnic interface="0" driver="e1000,x=y"/></machine>`, anyGuest, "driver", []string{"e1000,x=y"}},
		"device":           {"ext4", "", `<machine><vmdisk device="/dev/../x"/></machine>`, anyGuest, "device", []string{"no disk", "xvda"}},
		"entry":            {"ext4", "", `<machine><vmconfig-entry>foo</vmconfig-entry></machine>`, anyGuest, "vmconfig-entry", []string{`"foo"`, "xl.cfg"}},
		"builder":          {"ext4", "", `<machine><vmconfig-entry>builder='hvm'</vmconfig-entry></machine>`, anyGuest, "vmconfig-entry", []string{"builder", "type ="}},
		"type":             {"ext4", "", `<machine><vmconfig-entry>type='linux'</vmconfig-entry></machine>`, anyGuest, "vmconfig-entry", []string{`"linux"`}},
		"hvm by hand":      {"ext4", "", `<machine><vmconfig-entry>type='hvm'</vmconfig-entry></machine>`, anyGuest, "xen_loader", []string{"hvmloader"}},
		"pygrub reads":     {"squashfs", "", `<machine xen_loader="pygrub"/>`, anyGuest, "xen_loader", []string{"pygrub can't read", "squashfs", "ext4"}},
		"pvgrub reads":     {"squashfs", "", `<machine xen_loader="pvgrub"/>`, anyGuest, "squashfscompression", []string{"zstd", "xz"}},
		"kernel beside":    {"kis", "", `<machine xen_loader="pygrub"/>`, anyGuest, "xen_loader", []string{"brings its kernel"}},
		"compressed":       {"kis", `filesystem="ext4" compressed="true"`, `<machine/>`, anyGuest, "compressed", []string{"can't use"}},
		"kernel, any":      {"ext4", "", `<machine/>`, noGuest, "", []string{"CONFIG_XEN_PV or CONFIG_XEN_PVH", "6.1.0-9", "linux-image-amd64"}},
		"kernel, PV":       {"ext4", "", `<machine><vmconfig-entry>type="pv"</vmconfig-entry></machine>`, onlyPVH, "", []string{"CONFIG_XEN_PV (", "a paravirtual guest", `type = "pvh"`}},
		"kernel, PVH":      {"ext4", "", `<machine><vmconfig-entry>type="pvh"</vmconfig-entry></machine>`, onlyPV, "", []string{"CONFIG_XEN_PVH (", "a PVH guest", `type = "pv"`}},
		"packed, PV":       {"ext4", "", `<machine xen_loader="pvgrub"><vmconfig-entry>type="pv"</vmconfig-entry></machine>`, anyGuest + "CONFIG_KERNEL_LZ4=y\n", "", []string{"GRUB in a paravirtual guest can unpack", "lz4", `type = "pvh"`}},
		"packed, no PVH":   {"ext4", "", `<machine xen_loader="pvgrub"/>`, onlyPV + "CONFIG_KERNEL_ZSTD=y\n", "", []string{"zstd", `xen_loader="pygrub"`}},
		"disk, format":     {"oem", `filesystem="ext4" format="vmdk"`, `<machine xen_loader="hvmloader"/>`, anyGuest, "format", []string{"vmdk", "qcow2"}},
		"disk, pygrub":     {"oem", `filesystem="xfs"`, `<machine xen_loader="pygrub"/>`, anyGuest, "xen_loader", []string{"pygrub can't read", "xfs", `bootpartition="true"`}},
		"disk, no grub":    {"oem", `filesystem="ext4" firmware="custom"`, `<machine xen_loader="pygrub"/>`, anyGuest, "xen_loader", []string{"no boot loader"}},
		"hvm and type":     {"oem", `filesystem="ext4"`, `<machine xen_loader="hvmloader"><vmconfig-entry>type="pv"</vmconfig-entry></machine>`, anyGuest, "xen_loader", []string{"leave one of them out"}},
		"no initrd":        {"ext4", "", `<machine/>`, "no initrd", "", []string{"initial RAM disk", "dracut or initramfs-tools"}},
		"no kernel at all": {"ext4", "", `<machine/>`, "none", "", []string{"kernel", "linux-image-amd64"}},
	} {
		t.Run(name, func(t *testing.T) {
			tree := sample(t, c.config)
			switch c.config {
			case "none":
				tree = sample(t, "", "boot/vmlinuz-6.1.0-9")
			case "no initrd":
				tree = sample(t, anyGuest, "boot/initrd.img-6.1.0-9")
			}
			r := imagetest.Request(t, tree, c.kind, c.attributes, c.content)
			_, err := newPlan(r)
			if err == nil {
				t.Fatal("nobody refuses it")
			}
			for _, want := range c.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("%q does not say %q", err, want)
				}
			}
			var place *description.Error
			var lacks *image.TreeError
			switch {
			case c.place == "" && (!errors.As(err, &lacks) || !strings.HasPrefix(err.Error(), "config.xml:")):
				t.Errorf("%v is no error of the tree with a place", err)
			case c.place != "" && (!errors.As(err, &place) || place.Pos.IsZero()):
				t.Errorf("%v has no place", err)
			}
			if c.place == "" {
				return
			}
			// What the description alone tells is refused before there is a tree.
			r.Tree = nil
			if _, err := newPlan(r); err == nil {
				t.Error("without a tree nobody refuses it")
			}
		})
	}
}

// TestQcow2ForXen makes a disk that Xen's own QEMU can read, which distributions build without zstd.
func TestQcow2ForXen(t *testing.T) {
	testenv.NeedPrograms(t, "mke2fs", "qemu-img", "grub-mkimage")
	for attributes, want := range map[string]string{"": "zlib", ` formatoptions="compression_type=zstd"`: "zstd"} {
		r := imagetest.Request(t, sample(t, anyGuest), "oem", `filesystem="ext4" format="qcow2"`+attributes, `<machine><vmdisk device="/dev/xvda"/></machine>`)
		dir, _ := build(t, r)
		if info := testenv.Run(t, "qemu-img", "info", filepath.Join(dir, imagetest.BaseName+".qcow2")); !strings.Contains(info, "compression type: "+want) {
			t.Errorf("%s: qemu-img says %s", attributes, info)
		}
	}
}

// TestOtherArchitectures is about guests on ARM, which are of one kind.
func TestOtherArchitectures(t *testing.T) {
	arm := func(content string) error {
		r := imagetest.Request(t, nil, "ext4", "", "")
		r.Description = imagetest.Describe(t, "aarch64", "ext4", "", content)
		_, err := newPlan(r)
		return err
	}
	if err := arm(`<machine/>`); err != nil {
		t.Error(err)
	}
	if err := arm(`<machine xen_loader="pvgrub"/>`); err == nil || !strings.Contains(err.Error(), "x86_64") {
		t.Errorf("pvgrub: %v", err)
	}
	if err := arm(`<machine><vmconfig-entry>type = "pv"</vmconfig-entry></machine>`); err == nil || !strings.Contains(err.Error(), "pvh") {
		t.Errorf("pv: %v", err)
	}
}

// TestSayings is about what Build logs and Plan prints.
func TestSayings(t *testing.T) {
	testenv.NeedProgram(t, "mke2fs")
	r := imagetest.Request(t, sample(t, ""), "ext4", "", `<machine><vmnic interface="0" driver="e1000"/><vmdvd controller="ide" id="1"/></machine>`)
	var log strings.Builder
	r.Log = slog.New(slog.NewTextHandler(&log, nil))
	build(t, r)
	for _, want := range []string{"512 MiB", "vmdvd", "e1000", "config-6.1.0-9"} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("the log does not say %q:\n%s", want, &log)
		}
	}
	plan, err := builderOf("ext4").Plan(t.Context(), r)
	if err != nil || !strings.Contains(plan, "Xen: a PVH guest with 512 MiB, started by the kernel beside the image: "+imagetest.BaseName+".xenconfig") {
		t.Errorf("the plan: %s, %v", plan, err)
	}
}

// TestEqualBytes builds a guest twice.
func TestEqualBytes(t *testing.T) {
	testenv.NeedProgram(t, "mke2fs")
	var first map[string]string
	for range 2 {
		dir, files := build(t, imagetest.Request(t, sample(t, anyGuest), "ext4", "", `<machine xen_loader="pygrub"><vmnic interface="0"/></machine>`))
		sums := map[string]string{}
		for _, name := range files {
			data, err := os.ReadFile(filepath.Join(dir, imagetest.BaseName+name))
			if err != nil {
				t.Fatal(err)
			}
			sums[name] = string(data)
		}
		if first == nil {
			first = sums
		}
		for name := range sums {
			if first[name] != sums[name] {
				t.Errorf("%s differs", name)
			}
		}
	}
}
