package guest

import (
	"bytes"
	"context"
	"debug/elf"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/imgbuild/imgbuild/imagetypes/internal/imagetest"
	"github.com/imgbuild/imgbuild/internal/testenv"
	"github.com/imgbuild/imgbuild/layers/layerstest"
	"github.com/imgbuild/imgbuild/rootfs/initrd"
)

// pygrub has the host's real program find the kernel in an image, and returns by name what it tells the toolstack.
func pygrub(t *testing.T, file string) map[string]string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, imagetest.XenProgram(t, "pygrub"), "--quiet", "--output-format=simple", "--output-directory="+t.TempDir(), file)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("pygrub %s: %v\n%s", file, err, &stderr)
	}
	found := map[string]string{}
	for line := range strings.Lines(string(out)) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		found[key] = value
	}
	return found
}

// TestPygrub finds the kernels of disks and file systems as a host does.
func TestPygrub(t *testing.T) {
	tree := layerstest.Tree(t, layerstest.VM)
	kernel := initrd.FindKernels(tree)[0]
	for name, c := range map[string]struct{ kind, attributes, extension, cmdline string }{
		"disk with an MBR":   {"oem", `filesystem="ext4" kernelcmdline="quiet"`, ".raw", "quiet"},
		"disk with a GPT":    {"oem", `filesystem="ext4" bootpartition="true" bootfilesystem="ext4" firmware="efi" kernelcmdline="quiet"`, ".raw", "quiet"},
		"a file system":      {"ext4", "", ".ext4", "root=/dev/xvda1 rw console=hvc0"},
		"an old file system": {"ext2", "", ".ext2", "root=/dev/xvda1 rw console=hvc0"},
	} {
		t.Run(name, func(t *testing.T) {
			dir, _ := build(t, imagetest.Request(t, tree, c.kind, c.attributes, `<machine xen_loader="pygrub"/>`))
			found := pygrub(t, filepath.Join(dir, imagetest.BaseName+c.extension))
			if !strings.HasSuffix(found["args"], c.cmdline) || !strings.HasPrefix(found["args"], "root=") {
				t.Errorf("pygrub finds the command line %q", found["args"])
			}
			for key, from := range map[string]string{"kernel": kernel.Vmlinuz, "ramdisk": kernel.Initrd} {
				want, err := tree.ReadFile(from, 1<<30)
				if err != nil {
					t.Fatal(err)
				}
				got, err := os.ReadFile(found[key])
				if err != nil || !bytes.Equal(want, got) {
					t.Errorf("pygrub's %s is not /%s: %v", key, from, err)
				}
			}
		})
	}
}

// TestPVGrub looks at the GRUB that a host loads as the kernel: one for each kind of guest, which finds the menu in the image.
func TestPVGrub(t *testing.T) {
	testenv.NeedPrograms(t, "grub-mkimage", "mke2fs", "debugfs")
	testenv.NeedFile(t, "/usr/lib/grub/x86_64-xen/kernel.img")
	testenv.NeedFile(t, "/usr/lib/grub/i386-xen_pvh/kernel.img")
	xl := imagetest.XL(t)
	for name, c := range map[string]struct {
		config  string
		kind    string
		machine elf.Machine
	}{
		"paravirtual": {anyGuest + "CONFIG_KERNEL_XZ=y\n", "pv", elf.EM_X86_64}, "PVH": {onlyPVH, "pvh", elf.EM_386},
		"a kernel that unpacks itself": {anyGuest + "CONFIG_KERNEL_LZ4=y\n", "pvh", elf.EM_386},
	} {
		t.Run(name, func(t *testing.T) {
			dir, files := build(t, imagetest.Request(t, sample(t, c.config), "ext4", "", `<machine xen_loader="pvgrub"/>`))
			if files[keyPVGrub] != ".pvgrub" || files[keyKernel] != "" {
				t.Fatalf("results: %v", files)
			}
			image := filepath.Join(dir, imagetest.BaseName)
			if g := xl(image + ".xenconfig"); g.Info.Type != c.kind || g.Build.Kernel != imagetest.BaseName+".pvgrub" || g.Build.Ramdisk != "" || g.Build.Cmdline != "" {
				t.Errorf("xl reads %+v", g)
			}
			program, err := elf.Open(image + ".pvgrub")
			if err != nil {
				t.Fatal(err)
			}
			defer program.Close()
			if program.Machine != c.machine {
				t.Errorf("it is a program for %s", program.Machine)
			}
			data, err := os.ReadFile(image + ".pvgrub")
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Contains(data, []byte("search --no-floppy --file --set=root /boot/grub/grub.cfg")) || !bytes.Contains(data, []byte("Xen\x00")) {
				t.Error("it does not look for the menu, or is no kernel for Xen")
			}
			menu := testenv.Run(t, "debugfs", "-R", "cat /boot/grub/grub.cfg", image+".ext4")
			if !strings.Contains(menu, "linux /boot/vmlinuz-6.1.0-9 root=/dev/xvda1 rw console=hvc0\n") || !strings.Contains(menu, "initrd /boot/initrd.img-6.1.0-9\n") {
				t.Errorf("the menu is\n%s", menu)
			}
		})
	}
}

// TestPVGrubReads has GRUB's own code read the menu and the kernel of a squashfs.
func TestPVGrubReads(t *testing.T) {
	testenv.NeedFile(t, "/usr/lib/grub/x86_64-xen/kernel.img")
	reader := testenv.NeedProgram(t, "grub-fstest")
	for _, method := range []string{"gzip", "xz"} {
		dir, _ := build(t, imagetest.Request(t, sample(t, anyGuest), "squashfs", `squashfscompression="`+method+`"`, `<machine xen_loader="pvgrub"/>`))
		name := filepath.Join(dir, imagetest.BaseName+".squashfs")
		if menu := testenv.Run(t, reader, name, "cat", "(loop0)/boot/grub/grub.cfg"); !strings.Contains(menu, "linux /boot/vmlinuz-6.1.0-9 root=/dev/xvda1 ro console=hvc0\n") {
			t.Errorf("%s: the menu is\n%s", method, menu)
		}
		if kernel := testenv.Run(t, reader, name, "cat", "(loop0)/boot/vmlinuz-6.1.0-9"); kernel != "kernel" {
			t.Errorf("%s: the kernel is %q", method, kernel)
		}
	}
}
