package grub

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/imgbuild/imgbuild/internal/testenv"
	"github.com/imgbuild/imgbuild/layers"
	"github.com/imgbuild/imgbuild/layers/layerstest"
)

func config() Config {
	return Config{
		Title: "It's a system", Kernels: []Kernel{{"6.2", "/boot/vmlinuz-6.2", "/boot/initrd.img-6.2"}, {"6.1", "/boot/vmlinuz-6.1", ""}},
		Device: Device{UUID: "0123-4567"}, Prefix: "/boot/grub", Cmdline: `root=UUID=0123-4567 a;b $x quoted="c;d"`, Timeout: 5,
		Output: []string{"gfxterm", "serial"}, Input: []string{"console", "serial"}, Serial: "serial --unit=0",
	}
}

// xenConfig is the same with Xen, on which the newer kernel alone runs.
func xenConfig() Config {
	c := config()
	c.Hypervisor = &Hypervisor{Image: "/boot/xen.gz", Cmdline: "com1=115200,8n1 dom0_mem=512M;x", Kernels: c.Kernels[:1], KernelCmdline: "root=UUID=0123-4567 console=hvc0"}
	return c
}

// TestXenStartsFirst is about a host's menu: Xen by itself, and Linux alone for when that fails.
func TestXenStartsFirst(t *testing.T) {
	text := xenConfig().String()
	want := `menuentry 'It'\''s a system, with Xen hypervisor' --class gnu-linux --class os --unrestricted --id 'imgbuild-xen' {
  insmod part_gpt
  insmod part_msdos
  search --no-floppy --fs-uuid --set=root 0123-4567
  insmod multiboot2
  echo 'Loading Xen ...'
  multiboot2 /boot/xen.gz placeholder com1=115200,8n1 dom0_mem=512M\;x
  echo 'Loading Linux 6.2 ...'
  module2 /boot/vmlinuz-6.2 placeholder root=UUID=0123-4567 console=hvc0
  echo 'Loading initial ramdisk ...'
  module2 --nounzip /boot/initrd.img-6.2
}
`
	xen, linux := strings.Index(text, want), strings.Index(text, "--id 'imgbuild-default'")
	if xen < 0 || linux < xen || !strings.Contains(text[:xen], "set fallback=1\n") {
		t.Errorf("Xen does not come first:\n%s", text)
	}
	if strings.Count(text, "multiboot2 /boot") != 2 || !strings.Contains(text, "--id 'imgbuild-xen-6.2'") {
		t.Errorf("the submenu lacks Xen:\n%s", text)
	}
	c := config()
	menu := c.Menu([]Entry{{Title: "Live", ID: "live", Kernel: c.Kernels[0], Cmdline: "quiet", Hypervisor: xenConfig().Hypervisor}})
	if !strings.Contains(menu, "set fallback=1\n") || !strings.Contains(menu, "multiboot2 /boot/xen.gz") || !strings.Contains(menu, "module2 /boot/vmlinuz-6.2 placeholder quiet\n") {
		t.Errorf("the medium's menu does not start Xen:\n%s", menu)
	}
}

func TestConfigIsAValidScript(t *testing.T) {
	testenv.NeedPrograms(t, "grub-script-check")
	for name, text := range map[string]string{
		"config": config().String(), "Xen": xenConfig().String(), "none": Config{Device: Device{File: "/x"}}.String(), "early": Early(Device{UUID: "1"}, "/grub"), "stub": Stub(Device{File: "/boot/0x1"}, "/boot/grub"),
	} {
		file := filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		testenv.Run(t, "grub-script-check", file)
	}
}

func TestConfigSaysWhatIsAskedFor(t *testing.T) {
	text := config().String()
	for _, want := range []string{
		`menuentry 'It'\''s a system'`, "set timeout=5", "terminal_output gfxterm serial", "terminal_input console serial", "serial --unit=0\n",
		`linux /boot/vmlinuz-6.2 root=UUID=0123-4567 a\;b \$x quoted="c;d"` + "\n", "initrd /boot/initrd.img-6.2\n", "search --no-floppy --fs-uuid --set=root 0123-4567\n",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("grub.cfg lacks %q:\n%s", want, text)
		}
	}
	if strings.Count(text, "initrd /boot") != 3 {
		t.Errorf("the kernel without an initrd has one:\n%s", text)
	}
	if got := Early(Device{File: "/boot/0x1234"}, "/boot/grub"); got != "search --no-floppy --file --set=root /boot/0x1234\nset prefix=($root)/boot/grub\n" {
		t.Errorf("early commands are %q", got)
	}
}

func TestBIOSBoot(t *testing.T) {
	boot := bytes.Repeat([]byte{0x11}, 512)
	boot[510], boot[511] = 0x55, 0xaa
	core := bytes.Repeat([]byte{0x22}, 5000)
	sector, patched, err := BIOSBoot(boot, core, 2048)
	if err != nil {
		t.Fatal(err)
	}
	if len(sector) != 440 {
		t.Errorf("the boot code has %d bytes and reaches into the disk's signature", len(sector))
	}
	if got := binary.LittleEndian.Uint64(sector[0x5c:]); got != 2048 {
		t.Errorf("boot.img loads sector %d", got)
	}
	if sector[0x64] != 0xff || sector[0x66] != 0x90 || sector[0x67] != 0x90 {
		t.Errorf("boot.img has % x at 0x64", sector[0x64:0x68])
	}
	if got := binary.LittleEndian.Uint64(patched[0x1f4:]); got != 2049 {
		t.Errorf("the core image goes on at sector %d", got)
	}
	patched = bytes.Clone(patched)
	binary.LittleEndian.PutUint64(patched[0x1f4:], 0x2222222222222222)
	if !bytes.Equal(patched, core) || bytes.Contains(boot, []byte{0x90}) {
		t.Error("more was changed than the block list, or the inputs were")
	}
	for _, bad := range [][2][]byte{{boot[:100], core}, {make([]byte, 512), core}, {boot, core[:600]}} {
		if _, _, err := BIOSBoot(bad[0], bad[1], 1); err == nil {
			t.Error("a broken image was taken")
		}
	}
}

func TestFindPrefersTheTree(t *testing.T) {
	for _, dir := range []string{"usr/lib/grub/i386-pc", "usr/share/grub2/i386-pc"} {
		m, err := Find(layerstest.Files(t, map[string]string{dir + "/kernel.img": "k", dir + "/a.mod": "a", dir + "/boot.img": "b", dir + "/config.h": "c"}), PlatformBIOS)
		if err != nil {
			t.Fatal(err)
		}
		if m.Tree == nil || m.Dir != dir {
			t.Errorf("found %s", m)
		}
		extracted, err := m.Extract(t.Context(), t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		entries, err := os.ReadDir(extracted)
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		for _, e := range entries {
			names = append(names, e.Name())
		}
		if diff := cmp.Diff([]string{"a.mod", "boot.img", "kernel.img"}, names); diff != "" {
			t.Error(diff)
		}
		if data, err := m.ReadImage("boot.img"); err != nil || string(data) != "b" {
			t.Errorf("boot.img is %q, %v", data, err)
		}
	}
	_, err := Find(layerstest.Files(t, nil), "vax-pdp")
	if !errors.Is(err, ErrNoModules) {
		t.Errorf("error is %v", err)
	}
}

func TestInstall(t *testing.T) {
	full := layerstest.Files(t, map[string]string{
		"usr/lib/grub/x86_64-efi/kernel.img": "k", "usr/lib/grub/x86_64-efi/a.mod": "a", "usr/lib/grub/x86_64-efi/command.lst": "l", "usr/share/grub/unicode.pf2": "f",
	})
	m, err := Find(full, PlatformEFI64)
	if err != nil {
		t.Fatal(err)
	}
	edit := full.Edit(layers.Timespec{})
	if err := m.Install(edit, edit, Directory(full)); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"boot/grub/x86_64-efi/a.mod": "a", "boot/grub/x86_64-efi/command.lst": "l", "boot/grub/fonts/unicode.pf2": "f"} {
		if got, err := edit.ReadFile(name, 10); err != nil || string(got) != want {
			t.Errorf("%s is %q, %v", name, got, err)
		}
	}
	if _, err := edit.Lookup("boot/grub/x86_64-efi/kernel.img"); err == nil {
		t.Error("kernel.img is in /boot")
	}
	if got := Directory(layerstest.Files(t, map[string]string{"usr/sbin/grub2-mkconfig": "x"})); got != "boot/grub2" {
		t.Errorf("the directory on Fedora and SUSE is %s", got)
	}
}

func TestMakeImage(t *testing.T) {
	testenv.NeedPrograms(t, "grub-mkimage")
	for _, platform := range []string{PlatformBIOS, PlatformEFI64} {
		m, err := Find(nil, platform)
		if err != nil {
			testenv.Missing(t, "%v", err)
		}
		var images [][]byte
		for range 2 {
			core, err := MakeImage(t.Context(), ImageSpec{
				Platform: platform, Modules: m.Dir, Prefix: "/boot/grub", Config: Early(Device{UUID: "1"}, "/boot/grub"), Names: append(CoreModules(platform), "no_such_module"),
			}, t.TempDir())
			if err != nil {
				t.Fatal(err)
			}
			images = append(images, core)
		}
		if !bytes.Equal(images[0], images[1]) {
			t.Errorf("%s: two core images differ", platform)
		}
		if platform == PlatformBIOS && len(images[0]) > 1<<20-512 {
			t.Errorf("the core image for BIOS has %d bytes; less than 1 MiB must do before the first partition", len(images[0]))
		}
	}
}

func TestEnvironment(t *testing.T) {
	testenv.NeedPrograms(t, "grub-editenv")
	file := filepath.Join(t.TempDir(), "grubenv")
	if err := os.WriteFile(file, Environment(), 0o600); err != nil {
		t.Fatal(err)
	}
	testenv.Run(t, "grub-editenv", file, "set", "saved_entry=2")
	if out := testenv.Run(t, "grub-editenv", file, "list"); out != "saved_entry=2\n" {
		t.Errorf("grub-editenv lists %q", out)
	}
}

// TestCommandLines has GRUB itself read menus with command lines that mean something to its script language, and says what its kernels get.
func TestCommandLines(t *testing.T) {
	for cmdline, want := range map[string]string{
		`quiet root=UUID=1`: `quiet root=UUID=1`, `a;b $x`: `a\;b \$x`, `word='a b;$c'`: `word='a b;$c'`, `word="a $b;"`: `word="a \$b;"`, `it's`: `it\'s`, `say="`: `say=\"`,
		`disk=a\x20b`: `disk=a\\x20b`, `x #y`: `x \#y`, `"a\"b"`: `"a\\"b\"`, `it's "so"`: `it\'s "so"`,
	} {
		if got := Escape(cmdline); got != want {
			t.Errorf("%s becomes %s, not %s", cmdline, got, want)
		}
	}
	testenv.NeedPrograms(t, "grub-script-check")
	random := rand.New(rand.NewPCG(1, 2))
	c := Config{Title: "it's", Device: Device{File: "/boot/id"}}
	for range 200 {
		var line strings.Builder
		for range random.IntN(12) {
			line.WriteByte("\"'\\$;&|{}<># ab=()[]*?!"[random.IntN(22)])
		}
		menu := filepath.Join(t.TempDir(), "grub.cfg")
		text := c.Menu([]Entry{{Title: line.String(), ID: "x", Kernel: Kernel{Image: "/linux", Initrd: "/initrd"}, Cmdline: line.String(), More: "\"$isoboot\""}})
		if err := os.WriteFile(menu, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		testenv.Run(t, "grub-script-check", menu)
	}
}
