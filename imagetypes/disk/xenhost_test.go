package disk

import (
	"strings"
	"testing"

	"github.com/imgbuild/imgbuild/internal/testenv"
	"github.com/imgbuild/imgbuild/layers"
)

// hostTree is a tree with Xen and two kernels, of which the newer can't be a host.
func hostTree(t *testing.T, without string) *layers.Tree {
	t.Helper()
	files := map[string]string{
		"boot/vmlinuz-6.1-amd64": "kernel", "boot/initrd.img-6.1-amd64": "initrd", "boot/config-6.1-amd64": "CONFIG_XEN_DOM0=y\n",
		"boot/vmlinuz-6.2-cloud": "kernel", "boot/initrd.img-6.2-cloud": "initrd", "boot/config-6.2-cloud": "# CONFIG_XEN_DOM0 is not set\n",
		"boot/xen-4.17-amd64.gz": "hypervisor", "etc/os-release": "ID=debian\n", "etc/default/grub": "GRUB_CMDLINE_XEN=\"dom0_mem=700M\"\n",
	}
	delete(files, without)
	edit := layers.NewTree().Edit(layers.Timespec{Sec: 1600000000})
	for name, text := range files {
		if err := edit.WriteFile(name, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return edit.Tree()
}

// TestXenHost is about what GRUB finds on a disk of a host.
func TestXenHost(t *testing.T) {
	testenv.NeedPrograms(t, "grub-mkimage", "mke2fs")
	testenv.NeedFile(t, "/usr/lib/grub/i386-pc/kernel.img")
	r := request(t, hostTree(t, ""), `filesystem="ext4" bootpartition="true" xen_server="true" kernelcmdline="console=ttyS0,9600 quiet"`, "")
	d, tree, err := designOf(t, r)
	if err != nil {
		t.Fatal(err)
	}
	menu, err := tree.ReadFile("boot/grub/grub.cfg", 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	first, _, _ := strings.Cut(string(menu), "imgbuild-default")
	for _, want := range []string{
		"multiboot2 /xen-4.17-amd64.gz placeholder com1=9600,8n1 console=com1,vga dom0_mem=700M\n", "module2 /vmlinuz-6.1-amd64 placeholder root=UUID=", "console=hvc0 quiet\n",
	} {
		if !strings.Contains(first, want) {
			t.Errorf("the first entry lacks %q:\n%s", want, first)
		}
	}
	if strings.Contains(string(menu), "module2 /vmlinuz-6.2-cloud") {
		t.Errorf("a kernel that can't be a host is to be one:\n%s", menu)
	}
	defaults, err := tree.ReadFile("etc/default/grub", 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		`GRUB_CMDLINE_XEN="com1=9600,8n1 console=com1,vga dom0_mem=700M"`, `GRUB_CMDLINE_LINUX_XEN_REPLACE_DEFAULT="console=hvc0 quiet"`, `GRUB_CMDLINE_LINUX_DEFAULT="console=ttyS0,9600 quiet"`,
	} {
		if !strings.Contains(string(defaults), want+"\n") {
			t.Errorf("/etc/default/grub lacks %s:\n%s", want, defaults)
		}
	}
	if !strings.Contains(d.String(), "Xen: /boot/xen-4.17-amd64.gz") {
		t.Errorf("the plan does not name Xen:\n%s", d)
	}
}

func TestXenHostRefused(t *testing.T) {
	testenv.NeedPrograms(t, "grub-mkimage", "mke2fs")
	for without, want := range map[string]string{"boot/xen-4.17-amd64.gz": "xen-system-amd64", "boot/vmlinuz-6.1-amd64": "CONFIG_XEN_DOM0"} {
		err := Builder{}.Check(t.Context(), request(t, hostTree(t, without), `filesystem="ext4" xen_server="true"`, ""))
		if err == nil || !strings.Contains(err.Error(), want) || !strings.HasPrefix(err.Error(), "config.xml:7:") {
			t.Errorf("without %s: %v", without, err)
		}
	}
	r := request(t, hostTree(t, ""), `filesystem="ext4" xen_server="true"`, "")
	r.Description = describeFor(t, "aarch64", `filesystem="ext4" firmware="efi" xen_server="true"`, "")
	if err := (Builder{}).Check(t.Context(), r); err == nil || !strings.Contains(err.Error(), "aarch64") {
		t.Errorf("on ARM: %v", err)
	}
}
