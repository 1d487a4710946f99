package disk

import (
	"os"
	"strings"
	"testing"
	"time"

	"github.com/imgbuild/imgbuild/internal/qemu"
	"github.com/imgbuild/imgbuild/internal/testenv"
	"github.com/imgbuild/imgbuild/layers/layerstest"
)

// TestBootXenHost starts the disk of a host by every firmware. It has two kernels, of which Debian's cloud kernel runs on no hypervisor as the first machine. With Secure Boot
// switched on the system starts without the hypervisor, by itself.
func TestBootXenHost(t *testing.T) {
	if os.Getenv("IMGBUILD_TEST_BOOT") != "all" {
		t.Skip("IMGBUILD_TEST_BOOT=all runs this test")
	}
	testenv.NeedRealRoot(t)
	testenv.NeedPrograms(t, "qemu-system-x86_64", "mkfs.vfat", "mcopy", "grub-mkimage", "mke2fs")
	tree := layerstest.Tree(t, layerstest.Xen, layerstest.VM)
	disk := build(t, request(t, tree, `filesystem="ext4" firmware="uefi" xen_server="true" kernelcmdline="console=ttyS0"`, `<bootloader name="grub2" timeout="1" console="serial"/>`))
	const onXen, daemons, secure = "xl info", "systemctl start xen && xl list", "od -An -tu1 /sys/firmware/efi/efivars/SecureBoot-*"
	for firmware, checks := range map[qemu.Firmware]map[string]string{
		qemu.BIOS:       {onXen: "xen_version", daemons: "Domain-0", "ls /sys/firmware": "acpi"},
		qemu.UEFI:       {onXen: "xen_version", daemons: "Domain-0", "ls /sys/firmware": "efi", secure: " 0\n"},
		qemu.SecureBoot: {"test -e /sys/hypervisor/type || echo no Xen": "no Xen", secure: " 1\n"},
	} {
		t.Run(string(firmware), func(t *testing.T) {
			m, err := qemu.Start(t.Context(), qemu.Spec{Firmware: firmware, Memory: 2000, Disks: []qemu.Disk{{File: disk, Format: "raw"}}})
			if err != nil {
				t.Fatal(err)
			}
			defer m.Close()
			begin := time.Now()
			if err := m.Login(t.Context(), "root", "linux", 15*time.Minute); err != nil {
				t.Fatal(err)
			}
			t.Logf("logged in after %v", time.Since(begin).Round(time.Second))
			for command, want := range checks {
				output, code, err := m.Run(t.Context(), command, 5*time.Minute)
				if err != nil {
					t.Fatal(err)
				}
				if code != 0 || !strings.Contains(output, want) {
					t.Errorf("%s: exit code %d, output %q lacks %q", command, code, output, want)
				}
			}
		})
	}
}
