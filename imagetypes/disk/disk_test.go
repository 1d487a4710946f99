package disk

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/imgbuild/imgbuild/imagetypes/filesystem"
	"github.com/imgbuild/imgbuild/imagetypes/grub"
	"github.com/imgbuild/imgbuild/imagetypes/image"
	"github.com/imgbuild/imgbuild/internal/repro"
	"github.com/imgbuild/imgbuild/internal/testenv"
	"github.com/imgbuild/imgbuild/layers"
)

// smallTree is a tree that a disk can be built of, but that does not run: kernel, initrd and GRUB's modules are a few bytes each.
func smallTree(t testing.TB) *layers.Tree {
	t.Helper()
	edit := layers.NewTree().Edit(layers.Timespec{Sec: 1600000000, Nsec: 123456789})
	files := map[string]string{
		"boot/vmlinuz-6.1.0-9-amd64":         "kernel 9",
		"boot/initrd.img-6.1.0-9-amd64":      "initrd 9",
		"boot/vmlinuz-6.1.0-10-amd64":        "kernel 10",
		"boot/initrd.img-6.1.0-10-amd64":     "initrd 10",
		"usr/lib/grub/i386-pc/kernel.img":    "core",
		"usr/lib/grub/i386-pc/boot.img":      string(bootSector()),
		"usr/lib/grub/i386-pc/linux.mod":     "module",
		"usr/lib/grub/x86_64-efi/kernel.img": "core",
		"usr/lib/grub/x86_64-efi/linux.mod":  "module",
		"usr/share/grub/unicode.pf2":         "font",
		"etc/os-release":                     "ID=debian\n",
		"etc/default/grub":                   "# A comment\nGRUB_TIMEOUT=99\nGRUB_OTHER=stays\n",
		"etc/fstab":                          "# UNCONFIGURED\n",
		"etc/fstab.append":                   "tmpfs /tmp tmpfs defaults 0 0",
		"image/config.xml":                   "<image/>",
		"tmp/leftover":                       "x",
		"usr/bin/true":                       strings.Repeat("program", 300000),
		"var/lib/data":                       "data",
	}
	for name, text := range files {
		if err := edit.WriteFile(name, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return edit.Tree()
}

func bootSector() []byte {
	b := make([]byte, 512)
	b[510], b[511] = 0x55, 0xaa
	return b
}

// withHostGrub takes the pretended modules out of the tree, so that those of this machine are used.
func withHostGrub(t testing.TB, tree *layers.Tree) *layers.Tree {
	t.Helper()
	testenv.NeedPrograms(t, "grub-mkimage", "mkfs.vfat", "mcopy", "mke2fs")
	testenv.NeedFile(t, "/usr/lib/grub/i386-pc/boot.img")
	testenv.NeedFile(t, "/usr/lib/grub/x86_64-efi/kernel.img")
	edit := tree.Edit(layers.Timespec{})
	if err := edit.Remove("usr/lib/grub"); err != nil {
		t.Fatal(err)
	}
	return edit.Tree()
}

// designOf designs a disk without building it.
func designOf(t *testing.T, r *image.Request) (*design, *layers.Tree, error) {
	t.Helper()
	return Builder{}.prepare(t.Context(), r, filesystem.Env{Repro: r.Repro, Workdir: r.Workdir})
}

type planCase struct{ name, attributes, content string }

func planCases() []planCase {
	return []planCase{
		{"uefi", `filesystem="ext4" firmware="uefi" vga="0x317" kernelcmdline="console=ttyS0"`, ""},
		{"bios", `filesystem="ext4" firmware="bios"`, `<bootloader name="grub2" timeout="3" console="serial"/><oemconfig><oem-swap>true</oem-swap><oem-swapsize>64</oem-swapsize></oemconfig>`},
		{"size", `filesystem="ext4" firmware="efi" devicepersistency="by-partuuid" fsmountoptions="noatime" rootfs_label="SYSTEM"`, `<size unit="G">2</size>`},
		{"additive", `filesystem="ext4" firmware="efi" bootpartition="true" bootfilesystem="ext2"`, `<size unit="M" additive="true">512</size>`},
		{"partitions", `filesystem="ext4" firmware="efi" spare_part="100" spare_part_fs="ext4" spare_part_mountpoint="/srv"`,
			`<partitions><partition name="var" size="50" filesystem="ext4" mountpoint="/var"/><partition name="empty" size="10"/></partitions><size unit="M" unpartitioned="100">1000</size>`},
		{"systemsize", `filesystem="ext4" firmware="bios"`, `<oemconfig><oem-resize>false</oem-resize><oem-systemsize>300</oem-systemsize></oemconfig><size unit="G">1</size>`},
	}
}

func TestDesignGolden(t *testing.T) {
	testenv.NeedPrograms(t, "mke2fs")
	var got strings.Builder
	for _, c := range planCases() {
		d, tree, err := designOf(t, request(t, smallTree(t), c.attributes, c.content))
		if err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		got.WriteString("== " + c.name + "\n" + d.String())
		files := []string{"etc/fstab", "config.partids", "config.bootoptions"}
		if c.name == "uefi" || c.name == "bios" {
			files = append(files, "etc/default/grub", "boot/grub/grub.cfg")
		}
		for _, name := range files {
			data, err := tree.ReadFile(name, 1<<20)
			if err != nil {
				t.Fatal(err)
			}
			got.WriteString("-- " + name + "\n" + string(data))
		}
	}
	golden := filepath.Join("testdata", "designs.golden")
	if os.Getenv("UPDATE_GOLDEN") != "" {
		if err := os.WriteFile(golden, []byte(got.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got.String()); diff != "" {
		t.Errorf("designs differ from %s; UPDATE_GOLDEN=1 writes it anew\n%s", golden, diff)
	}
}

// TestReproducible builds whole disks twice from trees that were made separately.
func TestReproducible(t *testing.T) {
	for i, c := range []struct{ attributes, content string }{
		{`filesystem="ext4" firmware="uefi"`, ""},
		{`filesystem="ext4" firmware="uefi" format="qcow2"`, ""},
		{`filesystem="ext4" firmware="bios" bootpartition="true" format="vmdk"`, `<oemconfig><oem-swap>true</oem-swap></oemconfig>`},
	} {
		var images [][]byte
		for range 2 {
			r := request(t, withHostGrub(t, smallTree(t)), c.attributes, c.content)
			data, err := os.ReadFile(build(t, r))
			if err != nil {
				t.Fatal(err)
			}
			images = append(images, data)
			if i == 0 && len(images) == 1 {
				time.Sleep(2100 * time.Millisecond)
			}
		}
		if !bytes.Equal(images[0], images[1]) {
			t.Errorf("%s: two builds differ", c.attributes)
		}
	}
	other := request(t, withHostGrub(t, smallTree(t)), `filesystem="ext4" firmware="bios"`, "")
	other.Repro = repro.Source{Epoch: time.Unix(1700000000, 0)}
	build(t, other)
}

func TestForeignReadersOfADisk(t *testing.T) {
	testenv.NeedPrograms(t, "sgdisk", "fsck.fat", "e2fsck", "debugfs", "mdir", "dd", "swaplabel")
	r := request(t, withHostGrub(t, smallTree(t)), `filesystem="ext4" firmware="efi"`,
		`<oemconfig><oem-swap>true</oem-swap></oemconfig><partitions><partition name="var" size="50" filesystem="ext4" mountpoint="/var"/></partitions>`)
	d, _, err := designOf(t, r)
	if err != nil {
		t.Fatal(err)
	}
	raw := build(t, r)
	if out := testenv.Run(t, "sgdisk", "-v", raw); !strings.Contains(out, "No problems found") {
		t.Errorf("sgdisk: %s", out)
	}
	parts := map[string]string{}
	for _, p := range d.table.Partitions {
		parts[p.Name] = filepath.Join(t.TempDir(), p.Name)
		testenv.Run(t, "dd", "if="+raw, "of="+parts[p.Name], "bs=1M", "conv=sparse", "status=none", fmt.Sprintf("skip=%d", p.Start>>20), fmt.Sprintf("count=%d", p.Size>>20))
	}
	testenv.Run(t, "fsck.fat", "-n", parts[espName])
	if out := testenv.Run(t, "mdir", "-i", parts[espName], "::/EFI/BOOT"); !strings.Contains(out, "BOOTX64  EFI") {
		t.Errorf("the ESP has no boot loader: %s", out)
	}
	for _, name := range []string{rootVolumeName, "p.lxvar"} {
		testenv.Run(t, "e2fsck", "-fn", parts[name])
	}
	if out := testenv.Run(t, "swaplabel", parts[swapName]); !strings.Contains(out, "SWAP") {
		t.Errorf("swaplabel: %s", out)
	}
	cat := func(part, file string) string { return testenv.Run(t, "debugfs", "-R", "cat "+file, parts[part]) }
	if out := cat("p.lxvar", "/lib/data"); !strings.Contains(out, "data") {
		t.Errorf("/var/lib/data is %q", out)
	}
	if out := cat(rootVolumeName, "/etc/fstab"); !strings.Contains(out, " /var ext4 ") || !strings.Contains(out, "tmpfs /tmp") {
		t.Errorf("/etc/fstab is %q", out)
	}
	list := testenv.Run(t, "debugfs", "-R", "ls -p /", parts[rootVolumeName])
	if strings.Contains(list, "/image/") {
		t.Errorf("the description's directory is on the disk: %s", list)
	}
	data, err := os.ReadFile(raw)
	if err != nil {
		t.Fatal(err)
	}
	if data[0] == 0 || data[510] != 0x55 || data[511] != 0xaa {
		t.Error("there is no boot sector")
	}
}

func TestWhatIsMissingIsSaid(t *testing.T) {
	for name, c := range map[string]struct {
		remove []string
		want   []string
	}{
		"kernel": {[]string{"boot"}, []string{"config.xml:7:11: the root tree has no kernel", "linux-image-amd64"}},
		"initrd": {[]string{"boot/initrd.img-6.1.0-10-amd64"}, []string{"no initrd for the kernel 6.1.0-10-amd64", "initramfs-tools"}},
	} {
		edit := smallTree(t).Edit(layers.Timespec{})
		for _, file := range c.remove {
			if err := edit.Remove(file); err != nil {
				t.Fatal(err)
			}
		}
		err := Builder{}.Check(t.Context(), request(t, edit.Tree(), `filesystem="ext4" firmware="uefi"`, ""))
		var tree *image.TreeError
		if !errors.As(err, &tree) {
			t.Fatalf("%s: error is %v", name, err)
		}
		for _, want := range c.want {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %q lacks %q", name, err, want)
			}
		}
	}
}

func TestRefusedDescriptions(t *testing.T) {
	for _, c := range []struct{ attributes, content, want string }{
		{`filesystem="ext4" firmware="uefi" luks="secret"`, "", "encryption is not supported"},
		{`filesystem="ext4" firmware="uefi" target_blocksize="1024"`, "", "sectors of 1024 bytes"},
		{`filesystem="ext4" firmware="bios" target_blocksize="4096"`, "", "a BIOS can't boot"},
		{`filesystem="ext4" firmware="bios"`, `<bootloader name="systemd_boot"/>`, "systemd-boot starts by UEFI alone"},
		{`filesystem="ext4" firmware="efi"`, `<bootloader name="systemd_boot"/>`, "add the package systemd-boot-efi"},
		{`filesystem="ext4" firmware="efi"`, `<bootloader name="grub2_s390x_emu"/>`, "grub2_s390x_emu is not supported"},
		{`filesystem="squashfs" firmware="efi" squashfscompression="zstd"`, "", "GRUB can't read"},
		{`filesystem="ext4" firmware="efi" format="qcow2" formatoptions="cluster_size=3k"`, "", "cluster_size=3k: it must be"},
		{`filesystem="ext4" firmware="efi" installiso="true"`, "", "installation ISO"},
		{`filesystem="ext4" firmware="efi"`, `<size unit="M">40</size>`, "too small: at least"},
		{`filesystem="ext4" firmware="efi"`, `<partitions><partition name="a" size="50" filesystem="ext4" mountpoint="/var"/><partition name="b" size="50" filesystem="ext4" mountpoint="/var"/></partitions>`, "same mount point"},
		{`filesystem="ext4" firmware="efi"`, `<partitions><partition name="a" size="50" filesystem="ext4" mountpoint="/proc"/></partitions>`, "can't be mounted"},
		{`filesystem="ext4" firmware="efi"`, `<partitions><partition name="var" size="1" filesystem="ext4" mountpoint="/usr"/></partitions>`, "config.xml:7:90: the partition p.lxvar has 1 MiB, but its content needs"},
		{`filesystem="ext4" firmware="efi" spare_part="1" spare_part_fs="ext4" spare_part_mountpoint="/usr"`, "", "config.xml:7:56: the partition p.spare has 1 MiB, but"},
		{`filesystem="ext4" firmware="efi" efipartsize="1"`, "", "config.xml:7:56: the partition p.UEFI has 1 MiB, but"},
		{`filesystem="ext4" firmware="efi"`, `<oemconfig><oem-resize>false</oem-resize><oem-systemsize>1</oem-systemsize></oemconfig>`, "the partition p.lxroot has 1 MiB, but"},
	} {
		_, _, err := designOf(t, request(t, smallTree(t), c.attributes, c.content))
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s %s: error %v lacks %q", c.attributes, c.content, err, c.want)
		}
		if err != nil && strings.Contains(err.Error(), "secret") {
			t.Errorf("the error tells the passphrase: %v", err)
		}
	}
}

// TestIdentifierOfOptions names the root by the identifier or the label that the options for mkfs give it.
func TestIdentifierOfOptions(t *testing.T) {
	testenv.NeedPrograms(t, "mke2fs")
	const uuid = "12345678-1234-1234-1234-123456789abc"
	for by, want := range map[string]string{"by-uuid": "UUID=" + uuid, "by-label": "LABEL=System"} {
		r := request(t, smallTree(t), `filesystem="ext4" firmware="efi" devicepersistency="`+by+`" fscreateoptions="-U `+uuid+` -L System"`, "")
		if err := (Builder{}).Check(t.Context(), r); err != nil {
			t.Fatal(err)
		}
		d, tree, err := designOf(t, r)
		if err != nil {
			t.Fatal(err)
		}
		for name, text := range map[string]string{"etc/fstab": want + " / ext4", "config.bootoptions": "root=" + want, "boot/grub/grub.cfg": "--set=root " + uuid} {
			data, err := tree.ReadFile(name, maxText)
			if err != nil || !strings.Contains(string(data), text) {
				t.Errorf("%s: /%s lacks %q: %v\n%s", by, name, text, err, data)
			}
		}
		if spec := root(d.volumes).spec(); spec.UUID != uuid || spec.Label != "System" {
			t.Errorf("%+v", spec)
		}
	}
	for _, c := range []struct{ attributes, want string }{
		{`fscreateoptions="-L other" rootfs_label="ROOT"`, "config.xml:7:56: the file system's label is"}, {`fscreateoptions="-O nonsense"`, "config.xml:7:56: mke2fs does not take"},
	} {
		r := request(t, smallTree(t), `filesystem="ext4" firmware="efi" `+c.attributes, "")
		if err := (Builder{}).Check(t.Context(), r); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error is %v", c.attributes, err)
		}
	}
}

func TestCheckWithoutTree(t *testing.T) {
	testenv.NeedPrograms(t, "mke2fs", "mkfs.vfat", "mcopy", "grub-mkimage")
	r := request(t, nil, `filesystem="ext4" firmware="uefi"`, "")
	if err := (Builder{}).Check(t.Context(), r); err != nil {
		t.Error(err)
	}
}

func TestSignedBootLoaders(t *testing.T) {
	testenv.NeedPrograms(t, "mkfs.vfat", "mcopy", "mtype", "mke2fs")
	for _, c := range []struct {
		name  string
		files map[string]string
		esp   map[string]string
	}{
		{"debian", map[string]string{"usr/lib/shim/shimx64.efi.signed": "shim", "usr/lib/shim/mmx64.efi.signed": "mm", "usr/lib/grub/x86_64-efi-signed/grubx64.efi.signed": "grub"},
			map[string]string{"EFI/BOOT/BOOTX64.EFI": "shim", "EFI/BOOT/grubx64.efi": "grub", "EFI/BOOT/mmx64.efi": "mm"}},
		{"suse", map[string]string{"usr/share/efi/x86_64/shim.efi": "shim", "usr/share/efi/x86_64/MokManager.efi": "mm", "usr/share/efi/x86_64/grub.efi": "grub"},
			map[string]string{"EFI/BOOT/BOOTX64.EFI": "shim", "EFI/BOOT/grub.efi": "grub", "EFI/BOOT/MokManager.efi": "mm"}},
		{"fedora", map[string]string{"boot/efi/EFI/fedora/shimx64.efi": "shim", "boot/efi/EFI/fedora/grubx64.efi": "grub", "boot/efi/EFI/boot/bootx64.efi": "old"},
			map[string]string{"EFI/boot/bootx64.efi": "shim", "EFI/boot/grubx64.efi": "grub", "EFI/fedora/shimx64.efi": "shim"}},
	} {
		edit := smallTree(t).Edit(layers.Timespec{})
		for name, text := range c.files {
			if err := edit.WriteFile(name, []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		if err := edit.WriteFile("etc/os-release", []byte("ID="+c.name+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
		r := request(t, edit.Tree(), `filesystem="ext4" firmware="uefi"`, "")
		d, full, err := designOf(t, r)
		if err != nil {
			t.Fatal(err)
		}
		esp, err := d.espTree(t.Context(), full, mounted(d.volumes, "boot/efi").Tree, t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		for name, want := range c.esp {
			got, err := esp.ReadFile(name, 1<<20)
			if err != nil || string(got) != want {
				t.Errorf("%s: %s is %q, %v", c.name, name, got, err)
			}
		}
		for _, name := range []string{"EFI/BOOT/grub.cfg", "EFI/" + c.name + "/grub.cfg"} {
			got, err := esp.ReadFile(grub.OnFAT(esp.Edit(layers.Timespec{}), name), 1<<20)
			if err != nil || !strings.Contains(string(got), "configfile $prefix/grub.cfg") || !strings.Contains(string(got), root(d.volumes).UUID) {
				t.Errorf("%s: %s is %q, %v", c.name, name, got, err)
			}
		}
	}
}

func TestVMX(t *testing.T) {
	r := request(t, smallTree(t), `filesystem="ext4" firmware="efi" format="vmdk"`,
		`<machine memory="2048" guestOS="debian10-64" HWversion="14" ncpus="2"><vmconfig-entry>mks.enable3d = "FALSE"</vmconfig-entry><vmdisk id="0" controller="pvscsi" device="sda" diskmode="streamOptimized"/><vmnic driver="vmxnet3" interface="0" mode="nat" mac="98:90:96:a0:3c:58"/></machine>`)
	d, err := newDesign(r.Description, r.Repro)
	if err != nil {
		t.Fatal(err)
	}
	text := d.vmx("Test-VM", "disk.vmdk")
	for _, want := range []string{
		`memsize = "2048"`, `numvcpus = "2"`, `virtualHW.version = "14"`, `guestOS = "debian10-64"`, `scsi0.virtualDev = "pvscsi"`, `scsi0:0.fileName = "disk.vmdk"`,
		`ethernet0.virtualDev = "vmxnet3"`, `ethernet0.address = "98:90:96:a0:3c:58"`, `ethernet0.connectionType = "nat"`, `mks.enable3d = "FALSE"`,
	} {
		if !strings.Contains(text, want+"\n") {
			t.Errorf("the settings lack %s:\n%s", want, text)
		}
	}
	if got := d.results[0].options; len(got) != 2 || got[0].Value != "streamOptimized" || got[1].Value != "lsilogic" {
		t.Errorf("options are %v", got)
	}
}

func TestArm64(t *testing.T) {
	edit := smallTree(t).Edit(layers.Timespec{})
	if err := edit.WriteFile("usr/lib/grub/arm64-efi/kernel.img", []byte("core"), 0o644); err != nil {
		t.Fatal(err)
	}
	r := request(t, edit.Tree(), `filesystem="ext4" firmware="uefi"`, "")
	r.Description = describeFor(t, "aarch64", `filesystem="ext4" firmware="uefi"`, "")
	d, _, err := designOf(t, r)
	if err != nil {
		t.Fatal(err)
	}
	if d.loaders.BIOS != nil || d.loaders.EFI == nil || len(d.table.Partitions) != 2 || !strings.HasPrefix(root(d.volumes).Type.GUID, "B921B045") {
		t.Errorf("the design is\n%s", d)
	}
	r.Description = describeFor(t, "aarch64", `filesystem="ext4" firmware="bios"`, "")
	if err := (Builder{}).Check(t.Context(), r); err == nil {
		t.Error("there is a BIOS for arm64")
	}
}

func TestEFIPartitionGrowsWithItsContent(t *testing.T) {
	edit := smallTree(t).Edit(layers.Timespec{})
	if err := edit.WriteFile("boot/efi/EFI/tools/big.efi", make([]byte, 30<<20), 0o644); err != nil {
		t.Fatal(err)
	}
	d, _, err := designOf(t, request(t, edit.Tree(), `filesystem="ext4" firmware="efi"`, ""))
	if err != nil {
		t.Fatal(err)
	}
	if esp, _ := d.table.Named(espName); esp.Size < 40<<20 {
		t.Errorf("the ESP has %d bytes", esp.Size)
	}
	_, _, err = designOf(t, request(t, edit.Tree(), `filesystem="ext4" firmware="efi" efipartsize="25"`, ""))
	if err == nil || !strings.Contains(err.Error(), "p.UEFI has 25 MiB") {
		t.Errorf("error is %v", err)
	}
}

// TestKernelsOutsideBoot builds from a tree like Fedora's, where the kernel lies with its modules.
func TestKernelsOutsideBoot(t *testing.T) {
	edit := smallTree(t).Edit(layers.Timespec{})
	if err := edit.Remove("boot"); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"usr/lib/modules/6.5.0/vmlinuz": "kernel", "usr/lib/modules/6.5.0/initrd": "initrd", "usr/sbin/grub2-mkconfig": "x"} {
		if err := edit.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	_, tree, err := designOf(t, request(t, edit.Tree(), `filesystem="ext4" firmware="efi" bootpartition="true"`, ""))
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"boot/vmlinuz-6.5.0": "kernel", "boot/initrd.img-6.5.0": "initrd"} {
		if got, err := tree.ReadFile(name, 100); err != nil || string(got) != want {
			t.Errorf("%s is %q, %v", name, got, err)
		}
	}
	config, err := tree.ReadFile("boot/grub2/grub.cfg", 1<<20)
	if err != nil || !strings.Contains(string(config), "linux /vmlinuz-6.5.0 ") || !strings.Contains(string(config), "initrd /initrd.img-6.5.0\n") {
		t.Errorf("grub.cfg is %s, %v", config, err)
	}
}

// TestSquashfsRoot has no UUID that GRUB could look for, and can't be mounted for writing.
func TestSquashfsRoot(t *testing.T) {
	d, tree, err := designOf(t, request(t, smallTree(t), `filesystem="squashfs" firmware="efi"`, ""))
	if err != nil {
		t.Fatal(err)
	}
	marker := fmt.Sprintf("boot/0x%08x", d.signature)
	if _, err := tree.Lookup(marker); err != nil {
		t.Error(err)
	}
	config, err := tree.ReadFile("boot/grub/grub.cfg", 1<<20)
	if err != nil || !strings.Contains(string(config), "search --no-floppy --file --set=root /"+marker) || !strings.Contains(string(config), "root=PARTUUID="+root(d.volumes).PartUUID+" ro") {
		t.Errorf("grub.cfg is %s, %v", config, err)
	}
	if root(d.volumes).Compression != "gzip" {
		t.Errorf("the root is compressed by %s", root(d.volumes).Compression)
	}
}

func TestSetVariables(t *testing.T) {
	got := setVariables("# x\nA=1\nB=2\nA=3\n", map[string]string{"A": `a "$b"`, "C": "c"})
	if diff := cmp.Diff("# x\nA=\"a \\\"\\$b\\\"\"\nB=2\nC=\"c\"\n", got); diff != "" {
		t.Error(diff)
	}
}

// TestNames refuses names that can't be where they are needed, and takes letters of all languages elsewhere.
func TestNames(t *testing.T) {
	const partition = `<partitions><partition name="%s" size="10M" filesystem="ext4" mountpoint="/data"/></partitions>`
	for _, c := range []struct{ attributes, content, want string }{
		{`rootfs_label="Größe" devicepersistency="by-label"`, fmt.Sprintf(partition, "data"), ""},
		{`rootfs_label="a label"`, "", ""},
		{`rootfs_label="a label" devicepersistency="by-label"`, "", `config.xml:7:57: the label "a label" can't be put on the kernel's command line`},
		{"", fmt.Sprintf(partition, "öl"), "use letters of ASCII"},
		{"", fmt.Sprintf(partition, "a b"), "use letters of ASCII"},
	} {
		_, _, err := designOf(t, request(t, smallTree(t), `filesystem="ext4" firmware="bios" `+c.attributes, c.content))
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s %s: %v", c.attributes, c.content, err)
		}
	}
}
