package iso

import (
	"context"
	"strings"
	"testing"

	"github.com/imgbuild/imgbuild/imagetypes/internal/imagetest"
	"github.com/imgbuild/imgbuild/internal/qemu"
	"github.com/imgbuild/imgbuild/layers/layerstest"
)

// hostFiles are Xen, and the settings of kernels of which the newer can't be a host.
func hostFiles() map[string]string {
	return map[string]string{
		"boot/xen-4.17-amd64.gz": "the hypervisor", "boot/config-6.1.0-9": "CONFIG_XEN_DOM0=y\n", "boot/config-6.1.0-10": "# CONFIG_XEN_DOM0 is not set\n",
		"etc/default/grub": "GRUB_CMDLINE_XEN=\"dom0_mem=1G\"\n",
	}
}

// TestXenHost is about the files and the menu of a medium that starts Xen.
func TestXenHost(t *testing.T) {
	needTools(t)
	file, _ := build(t, request(t, smallTree(t, hostFiles()), `flags="dmsquash" xen_server="true" kernelcmdline="console=ttyS0 quiet"`, ""))
	dir := extract(t, file)
	for name, want := range map[string]string{"boot/x86_64/loader/xen.gz": "the hypervisor", "boot/x86_64/loader/linux": "old kernel"} {
		if got := read(t, dir, name); got != want {
			t.Errorf("%s is %q", name, got)
		}
	}
	menu := read(t, dir, "boot/grub/grub.cfg")
	first, rest, _ := strings.Cut(menu, "--id 'live' ")
	for _, want := range []string{
		"menuentry 'Test VM, with Xen hypervisor'", "multiboot2 /boot/x86_64/loader/xen.gz placeholder com1=115200,8n1 console=com1,vga dom0_mem=1G\n",
		"module2 /boot/x86_64/loader/linux placeholder root=live:CDLABEL=CDROM", "console=hvc0 quiet\n", "module2 --nounzip /boot/x86_64/loader/initrd\n",
	} {
		if !strings.Contains(first, want) {
			t.Errorf("the first entry lacks %q:\n%s", want, menu)
		}
	}
	plan, err := Builder{}.Plan(t.Context(), request(t, smallTree(t, hostFiles()), `flags="dmsquash" xen_server="true"`, ""))
	if err != nil || !strings.Contains(plan, "Xen: /boot/xen-4.17-amd64.gz\n") {
		t.Errorf("the plan is %s, %v", plan, err)
	}
	if !strings.Contains(rest, "linux /boot/x86_64/loader/linux") || !strings.Contains(rest, "console=ttyS0 quiet \"$isoboot\"\n") {
		t.Errorf("there is no entry without Xen:\n%s", menu)
	}
}

func TestXenHostRefused(t *testing.T) {
	for without, want := range map[string]string{"boot/xen-4.17-amd64.gz": "xen-system-amd64", "boot/config-6.1.0-9": "CONFIG_XEN_DOM0"} {
		files := hostFiles()
		files[without] = map[bool]string{true: "-", false: "# CONFIG_XEN_DOM0 is not set\n"}[strings.HasSuffix(without, ".gz")]
		err := Builder{}.Check(t.Context(), request(t, smallTree(t, files), `xen_server="true"`, ""))
		if err == nil || !strings.Contains(err.Error(), want) || !strings.HasPrefix(err.Error(), "config.xml:7:") {
			t.Errorf("without %s: %v", without, err)
		}
	}
	r := request(t, smallTree(t, nil), "", "")
	r.Description = imagetest.Describe(t, "aarch64", "iso", `firmware="efi" xen_server="true"`, "")
	if err := (Builder{}).Check(t.Context(), r); err == nil || !strings.Contains(err.Error(), "aarch64") {
		t.Errorf("on ARM: %v", err)
	}
}

// TestBootXenHost starts a live host by every firmware. With Secure Boot switched on the system starts without the hypervisor, by itself.
func TestBootXenHost(t *testing.T) {
	needAllBoots(t)
	tree := layerstest.Tree(t, layerstest.Xen, layerstest.Live)
	file, _ := build(t, request(t, tree, `flags="dmsquash" firmware="uefi" xen_server="true" `+console, quick))
	overlay, onXen := [2]string{"findmnt -n -o FSTYPE /", "overlay"}, [2]string{"xl info", "xen_version"}
	const secure = "od -An -tu1 /sys/firmware/efi/efivars/SecureBoot-*"
	for firmware, checks := range map[qemu.Firmware][][2]string{
		qemu.BIOS:       {overlay, onXen, {"systemctl start xen && xl list", "Domain-0"}},
		qemu.UEFI:       {overlay, onXen, {"systemctl start xen && xl list", "Domain-0"}, {secure, " 0\n"}},
		qemu.SecureBoot: {overlay, {"test -e /sys/hypervisor/type || echo no Xen", "no Xen"}, {secure, " 1\n"}},
	} {
		t.Run(string(firmware), func(t *testing.T) {
			spec := asCD(file, firmware)
			spec.Memory = 2500
			use(t, spec, func(ctx context.Context, m *qemu.Machine) { run(ctx, t, m, checks...) })
		})
	}
}
