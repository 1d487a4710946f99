package disk

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/imgbuild/imgbuild/internal/testenv"
	"github.com/imgbuild/imgbuild/layers"
)

// TestSystemdBoot lets mtools read the EFI system partition.
func TestSystemdBoot(t *testing.T) {
	testenv.NeedPrograms(t, "mkfs.vfat", "mcopy", "mtype", "mdir", "mke2fs", "fsck.fat")
	edit := smallTree(t).Edit(layers.Timespec{})
	for name, text := range map[string]string{"usr/lib/systemd/boot/efi/systemd-bootx64.efi": "unsigned", "usr/lib/systemd/boot/efi/systemd-bootx64.efi.signed": "signed", "boot/initrd.img-6.1.0-10-amd64": strings.Repeat("initrd", 6<<20)} {
		if err := edit.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for firmware, loader := range map[string]string{"efi": "unsigned", "uefi": "signed"} {
		r := request(t, edit.Tree(), `filesystem="ext4" firmware="`+firmware+`" kernelcmdline="quiet"`, `<bootloader name="systemd_boot" timeout="4"/>`)
		d, tree, err := designOf(t, r)
		if err != nil {
			t.Fatal(err)
		}
		data, err := os.ReadFile(build(t, r))
		if err != nil {
			t.Fatal(err)
		}
		esp, _ := d.table.Named(espName)
		part := filepath.Join(t.TempDir(), "esp")
		if err := os.WriteFile(part, data[esp.Start:esp.End()], 0o600); err != nil {
			t.Fatal(err)
		}
		testenv.Run(t, "fsck.fat", "-n", part)
		id := root(d.volumes).UUID
		for name, want := range map[string]string{
			"EFI/BOOT/BOOTX64.EFI": loader, "EFI/systemd/systemd-bootx64.efi": loader, "loader/loader.conf": "timeout 4\n", "debian/6.1.0-9-amd64/initrd": "initrd 9", "debian/6.1.0-10-amd64/linux": "kernel 10",
			"loader/entries/debian-6.1.0-10-amd64.conf": "title      Test VM\nversion    6.1.0-10-amd64\nsort-key   debian\noptions    root=UUID=" + id + " ro quiet\nlinux      /debian/6.1.0-10-amd64/linux\ninitrd     /debian/6.1.0-10-amd64/initrd\n",
		} {
			if got := testenv.Run(t, "mtype", "-i", part, "::/"+name); got != want {
				t.Errorf("%s: %s is %q", firmware, name, got)
			}
		}
		if out := testenv.Run(t, "mdir", "-i", part, "::/debian/6.1.0-10-amd64"); !strings.Contains(strings.ReplaceAll(out, " ", ""), "37748736") {
			t.Errorf("the initial RAM disk is not whole:\n%s", out)
		}
		for name, want := range map[string]string{tokenFile: "debian\n", cmdlineFile: "root=UUID=" + id + " ro quiet\n"} {
			if got, err := tree.ReadFile(name, maxText); err != nil || string(got) != want {
				t.Errorf("/%s is %q, %v", name, got, err)
			}
		}
		if _, err := tree.Lookup("boot/grub"); err == nil {
			t.Error("GRUB is on the disk")
		}
		if _, there := d.table.Named(legacyName); there {
			t.Error("there is a partition for GRUB")
		}
	}
}
