package xen

import (
	"errors"
	"strings"
	"testing"

	"github.com/imgbuild/imgbuild/imagetypes/image"
	"github.com/imgbuild/imgbuild/layers"
	"github.com/imgbuild/imgbuild/layers/layerstest"
	"github.com/imgbuild/imgbuild/rootfs/initrd"
)

func TestFindHypervisor(t *testing.T) {
	found, err := findHypervisor(layerstest.Files(t, map[string]string{"boot/xen-4.9-amd64.gz": "", "boot/xen-4.17-amd64.gz": "", "boot/xen-4.17-amd64.efi": "", "boot/xen.cfg": ""}))
	if found != "boot/xen-4.17-amd64.gz" || err != nil {
		t.Errorf("%s, %v", found, err)
	}
	for release, want := range map[string]string{
		"ID=debian": "xen-system-amd64", "ID=ubuntu\nID_LIKE=debian": "xen-system-amd64", "ID=\"opensuse-leap\"": "xen-tools", "ID=fedora": "package xen ", "ID=alpine": "xen-hypervisor",
		"ID=nixos": "xen (Fedora, openSUSE)",
	} {
		_, err := findHypervisor(layerstest.Files(t, map[string]string{"etc/os-release": release + "\n", "boot/vmlinuz-1": ""}))
		var missing *image.TreeError
		if !errors.As(err, &missing) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", release, err)
		}
	}
	if _, err := findHypervisor(layers.NewTree()); err == nil {
		t.Error("an empty tree has a hypervisor")
	}
}

func TestReadKernel(t *testing.T) {
	files := layerstest.Files(t, map[string]string{
		"boot/config-1": "CONFIG_XEN_PV=y\nCONFIG_XEN_PVH=y\nCONFIG_XEN_DOM0=y\n", "lib/modules/2/config": "# CONFIG_XEN_PV is not set\nCONFIG_PVH=y\n",
		"usr/lib/modules/3/config": "CONFIG_ARM64=y\nCONFIG_XEN=y\nCONFIG_XEN_BLKDEV_FRONTEND=y\n", "boot/config-4": "# CONFIG_KERNEL_GZIP is not set\nCONFIG_KERNEL_LZ4=y\n",
	})
	for version, want := range map[string]Kernel{
		"1": {Known: true, PV: true, PVH: true, Dom0: true}, "2": {Known: true, PVH: true}, "3": {Known: true, PVH: true, Dom0: true, Disks: true}, "4": {Known: true, Packing: "lz4"}, "5": {},
	} {
		want.Version = version
		if got, err := ReadKernel(files, version); got != want || err != nil {
			t.Errorf("%+v, %v", got, err)
		}
	}
}

func TestDom0Kernels(t *testing.T) {
	files := map[string]string{"boot/config-1": "CONFIG_XEN_DOM0=y\n", "boot/config-2-cloud": "# CONFIG_XEN_DOM0 is not set\n", "etc/os-release": "ID=debian\n"}
	kernels := []initrd.Kernel{{Version: "1"}, {Version: "2-cloud"}, {Version: "3"}}
	fit, err := dom0Kernels(layerstest.Files(t, files), kernels)
	if err != nil || len(fit) != 2 || fit[0].Version != "1" || fit[1].Version != "3" {
		t.Errorf("%v, %v", fit, err)
	}
	if _, err = dom0Kernels(layerstest.Files(t, files), kernels[1:2]); err == nil || !strings.Contains(err.Error(), "2-cloud") || !strings.Contains(err.Error(), "linux-image-amd64") {
		t.Errorf("%v", err)
	}
}

func TestHostConsole(t *testing.T) {
	for cmdline, want := range map[string][2]string{
		"quiet":                                     {"quiet", ""},
		"console=ttyS0 quiet":                       {"console=hvc0 quiet", "com1=115200,8n1 console=com1,vga"},
		"console=tty0 console=ttyS1,9600n8":         {"console=tty0 console=hvc0", "com2=9600,8n1 console=com2,vga"},
		"console=ttyS0,57600 console=ttyS1":         {"console=hvc0", "com1=57600,8n1 com2=115200,8n1 console=com1,com2,vga"},
		"console=ttyS4 console=ttyS earlycon=ttyS0": {"console=ttyS4 console=ttyS earlycon=ttyS0", ""},
		"console=ttyS0,;evil":                       {"console=hvc0", "com1=115200,8n1 console=com1,vga"},
	} {
		kernel, hypervisor := hostConsole(cmdline)
		if kernel != want[0] || hypervisor != want[1] {
			t.Errorf("%q: %q, %q", cmdline, kernel, hypervisor)
		}
	}
}

func TestHypervisorOptions(t *testing.T) {
	always, first := hypervisorOptions(layerstest.Files(t, map[string]string{
		"etc/default/grub": "GRUB_TIMEOUT=5\nGRUB_CMDLINE_XEN=\"dom0_mem=1G,max:1G\"\n#GRUB_CMDLINE_XEN=x\n", "etc/default/grub.d/xen.cfg": "GRUB_CMDLINE_XEN_DEFAULT='smap=0'\n",
		"etc/default/grub.d/zz.cfg": "GRUB_CMDLINE_XEN=\"$X y\"\n", "etc/default/grub.d/ignored": "GRUB_CMDLINE_XEN=no\n",
	}))
	if always != "dom0_mem=1G,max:1G" || first != "smap=0" {
		t.Errorf("%q, %q", always, first)
	}
	if always, first := hypervisorOptions(layers.NewTree()); always != "" || first != "" {
		t.Errorf("%q, %q", always, first)
	}
}

// TestHostOptions puts together what a host's console wants and what its settings say.
func TestHostOptions(t *testing.T) {
	kernel, always, first := HostOptions(layerstest.Files(t, map[string]string{
		"etc/default/grub": "GRUB_CMDLINE_XEN=\"dom0_mem=1G console=com1,vga\"\nGRUB_CMDLINE_XEN_DEFAULT=smap=0\n",
	}), "root=UUID=1 console=ttyS0 quiet")
	if kernel != "root=UUID=1 console=hvc0 quiet" || always != "com1=115200,8n1 console=com1,vga dom0_mem=1G" || first != always+" smap=0" {
		t.Errorf("%q, %q, %q", kernel, always, first)
	}
}
