package disk

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/imgbuild/imgbuild/description"
	"github.com/imgbuild/imgbuild/imagetypes/image"
	"github.com/imgbuild/imgbuild/imagetypes/internal/imagetest"
	"github.com/imgbuild/imgbuild/internal/qemu"
	"github.com/imgbuild/imgbuild/internal/testenv"
	"github.com/imgbuild/imgbuild/layers"
	"github.com/imgbuild/imgbuild/layers/layerstest"
)

// describe resolves a description with the given attributes and content of its type element.
func describe(t testing.TB, attributes, content string) *description.Image {
	t.Helper()
	return describeFor(t, "x86_64", attributes, content)
}

func describeFor(t testing.TB, arch, attributes, content string) *description.Image {
	t.Helper()
	return imagetest.Describe(t, arch, "oem", attributes, content)
}

func request(t testing.TB, tree *layers.Tree, attributes, content string) *image.Request {
	t.Helper()
	return imagetest.Request(t, tree, "oem", attributes, content)
}

// build builds and returns the path of the first result.
func build(t testing.TB, r *image.Request) string {
	t.Helper()
	return imagetest.Build(t, Builder{}, r)
}

// bootCase is a disk that is built and booted.
type bootCase struct {
	name       string
	attributes string
	content    string
	format     string
	firmware   []qemu.Firmware
	checks     map[string]string // command: what its output must contain
	needs      string            // a file of the tree
}

func bootCases() []bootCase {
	const console = `kernelcmdline="console=ttyS0 net.ifnames=0"`
	const quick = `<bootloader name="grub2" timeout="1" console="serial"/>`
	return []bootCase{
		{
			name: "ext4", attributes: `filesystem="ext4" firmware="uefi" format="qcow2" ` + console, content: quick, format: "qcow2",
			firmware: []qemu.Firmware{qemu.BIOS, qemu.UEFI},
			checks: map[string]string{
				"findmnt -n -o FSTYPE /": "ext4", "findmnt -n -o FSTYPE /boot/efi": "vfat", "cat /proc/cmdline": "console=ttyS0", "cat /boot/mbrid": "0x",
				"blkid -o value -s LABEL $(findmnt -n -o SOURCE /)": "ROOT", "systemctl is-system-running --wait": "running", "touch /written && echo fine": "fine",
			},
		},
		{
			name: "xfs", attributes: `filesystem="xfs" firmware="efi" ` + console, content: quick + `<size unit="G">3</size>`, format: "raw",
			firmware: []qemu.Firmware{qemu.UEFI}, checks: map[string]string{"findmnt -n -o FSTYPE /": "xfs", "df -BM --output=size /": "29"},
		},
		{
			name: "bios", attributes: `filesystem="ext3" firmware="bios" format="vmdk" bootpartition="true" devicepersistency="by-label" ` + console,
			content: quick + `<oemconfig><oem-resize>false</oem-resize><oem-swap>true</oem-swap></oemconfig>`, format: "vmdk",
			firmware: []qemu.Firmware{qemu.BIOS},
			checks: map[string]string{
				"findmnt -n -o FSTYPE /boot": "ext3", "swapon --show=NAME,SIZE --noheadings": "128M", "cat /proc/cmdline": "root=LABEL=ROOT",
			},
		},
		{
			name: "secureboot", attributes: `filesystem="ext4" firmware="uefi" ` + console, content: quick, format: "raw", needs: "usr/lib/shim/shimx64.efi.signed",
			firmware: []qemu.Firmware{qemu.SecureBoot}, checks: map[string]string{"od -An -tu1 /sys/firmware/efi/efivars/SecureBoot-*": " 1\n"},
		},
		{
			name: "systemd-boot", attributes: `filesystem="ext4" firmware="efi" ` + console, content: `<bootloader name="systemd_boot" timeout="1"/>`, format: "raw", needs: "usr/lib/systemd/boot/efi/systemd-bootx64.efi",
			firmware: []qemu.Firmware{qemu.UEFI}, checks: map[string]string{"findmnt -n -o FSTYPE /boot/efi": "vfat", "cat /proc/cmdline": "console=ttyS0", "cat /etc/kernel/cmdline": "root=UUID="},
		},
		{
			name: "btrfs", attributes: `filesystem="btrfs" firmware="uefi" btrfs_root_is_snapshot="true" btrfs_quota_groups="true" ` + console,
			content: quick + `<systemdisk><volume name="home"/><volume name="var/log" copy_on_write="false"/></systemdisk>`, format: "raw",
			firmware: []qemu.Firmware{qemu.BIOS}, checks: map[string]string{
				"findmnt -n -o FSTYPE,OPTIONS /": "subvol=/@/.snapshots/1/snapshot", "findmnt -n -o OPTIONS /home": "subvol=/@/home", "findmnt -n -o OPTIONS /.snapshots": "subvol=/@/.snapshots",
				"lsattr -d /var/log": "C", "systemctl is-system-running --wait": "running",
			},
		},
	}
}

func TestBoot(t *testing.T) {
	testenv.NeedPrograms(t, "qemu-system-x86_64", "mkfs.vfat", "mcopy", "grub-mkimage")
	tree := layerstest.Tree(t, layerstest.VM)
	for _, c := range bootCases() {
		t.Run(c.name, func(t *testing.T) {
			if _, _, err := tree.Resolve(c.needs); err != nil {
				testenv.Missing(t, "the root tree has no /%s", c.needs)
			}
			disk := build(t, request(t, tree, c.attributes, c.content))
			for _, firmware := range c.firmware {
				t.Run(string(firmware), func(t *testing.T) { boot(t, disk, c, firmware) })
			}
		})
	}
}

// boot starts a machine, logs in and runs the checks.
func boot(t *testing.T, disk string, c bootCase, firmware qemu.Firmware) {
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	begin := time.Now()
	m, err := qemu.Start(ctx, qemu.Spec{Firmware: firmware, Disks: []qemu.Disk{{File: disk, Format: c.format}}})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	if err := m.Login(ctx, "root", "linux", 5*time.Minute); err != nil {
		t.Fatal(err)
	}
	t.Logf("logged in after %v", time.Since(begin).Round(100*time.Millisecond))
	for command, want := range c.checks {
		output, code, err := m.Run(ctx, command, 2*time.Minute)
		if err != nil {
			t.Fatal(err)
		}
		if code != 0 || !strings.Contains(output, want) {
			t.Errorf("%s: exit code %d, output %q lacks %q", command, code, output, want)
		}
	}
	if err := m.Shutdown(ctx, 2*time.Minute); err != nil {
		t.Error(err)
	}
}
