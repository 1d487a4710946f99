package disk

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"path"
	"strings"

	"github.com/imgbuild/imgbuild/imagetypes/grub"
	"github.com/imgbuild/imgbuild/imagetypes/image"
	"github.com/imgbuild/imgbuild/layers"
)

// systemd-boot reads nothing but the EFI system partition: kernels, initial RAM disks and the menu's entries lie there, as the Boot Loader Specification of
// the UAPI group has them ("type #1") and kernel-install keeps them.

// espDir is where the EFI system partition is mounted.
const espDir = "boot/efi"

// findSystemdBoot looks for systemd-boot in the tree, a signed one first where Secure Boot is wanted.
func (d *design) findSystemdBoot(tree *layers.Tree) error {
	_, bootFile, err := grub.EFIPlatform(d.arch)
	if err != nil {
		return err
	}
	name := "usr/lib/systemd/boot/efi/systemd-" + strings.ToLower(bootFile)
	candidates := []string{name}
	if d.secure {
		candidates = []string{name + ".signed", name}
	}
	for _, candidate := range candidates {
		if _, node, err := tree.Resolve(candidate); err == nil && node.IsRegular() {
			d.systemdBoot = candidate
			return nil
		}
	}
	return image.Placed(d.typ.Bootloader.At("name"), &image.TreeError{Missing: "systemd-boot (/" + name + ")", Need: `bootloader name="systemd_boot"`,
		Hint: "add the package systemd-boot-efi (Debian), systemd-boot-unsigned (Fedora) or systemd-boot (openSUSE) to the description"})
}

// entryToken is what names of entries begin with: what kernel-install is told to take, or else the system's name.
func entryToken(edit *layers.Editor) (string, error) {
	text, err := edit.ReadFile(tokenFile, maxText)
	if err == nil && strings.TrimSpace(string(text)) != "" {
		return strings.TrimSpace(string(text)), nil
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	return cmp.Or(osID(edit.Tree()), "linux"), nil
}

// The files that tell kernel-install on the machine what the next kernel's entry is like: kernel-install(8).
const (
	tokenFile   = "etc/kernel/entry-token"
	cmdlineFile = "etc/kernel/cmdline"
)

// writeSystemdBoot puts the boot loader, kernels and entries into /boot/efi.
func (d *design) writeSystemdBoot(edit *layers.Editor, _ *slog.Logger) error {
	token, err := entryToken(edit)
	if err != nil {
		return err
	}
	_, bootFile, err := grub.EFIPlatform(d.arch)
	if err != nil {
		return err
	}
	_, loader, err := edit.Resolve(d.systemdBoot)
	if err != nil {
		return err
	}
	for _, name := range []string{path.Join(grub.EFIDir, bootFile), "EFI/systemd/systemd-" + strings.ToLower(bootFile)} {
		if err := putFile(edit, grub.OnFAT(edit, path.Join(espDir, name)), loader); err != nil {
			return err
		}
	}
	texts := map[string]string{
		tokenFile: token + "\n", cmdlineFile: d.kernelCmdline() + "\n",
		espDir + "/loader/loader.conf":  fmt.Sprintf("timeout %d\n", d.grubConfig().Timeout),
		espDir + "/loader/entries.srel": "type1\n",
	}
	for _, k := range d.kernels {
		var b strings.Builder
		line := func(key, value string) { fmt.Fprintf(&b, "%-10s %s\n", key, value) }
		line("title", d.title)
		line("version", k.Version)
		line("sort-key", token)
		line("options", d.kernelCmdline())
		line("linux", path.Join("/", token, k.Version, "linux"))
		if k.Initrd != "" {
			line("initrd", path.Join("/", token, k.Version, "initrd"))
		}
		texts[fmt.Sprintf("%s/loader/entries/%s-%s.conf", espDir, token, k.Version)] = b.String()
	}
	for name, text := range texts {
		if err := edit.MkdirAll(path.Dir(name), 0o755); err != nil {
			return err
		}
		if err := edit.WriteFile(name, []byte(text), 0o644); err != nil {
			return err
		}
	}
	return d.copyKernels(edit)
}

// copyKernels puts kernels and initial RAM disks, as they are now, where systemd-boot finds them.
func (d *design) copyKernels(edit *layers.Editor) error {
	token, err := entryToken(edit)
	if err != nil {
		return err
	}
	for _, k := range d.kernels {
		for name, from := range map[string]string{"linux": k.Vmlinuz, "initrd": k.Initrd} {
			if from == "" {
				continue
			}
			_, node, err := edit.Resolve(from)
			if err != nil {
				return fmt.Errorf("reading the kernel %s: %w", k.Version, err)
			}
			if err := putFile(edit, path.Join(espDir, token, k.Version, name), node); err != nil {
				return err
			}
		}
	}
	return nil
}

// putFile puts a copy of a file somewhere.
func putFile(edit *layers.Editor, name string, node *layers.Node) error {
	if err := edit.MkdirAll(path.Dir(name), 0o755); err != nil {
		return err
	}
	copied := *node
	return edit.Put(name, &copied)
}
