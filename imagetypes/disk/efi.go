package disk

import (
	"context"
	"fmt"
	"path"
	"strings"

	"github.com/imgbuild/imgbuild/imagetypes/grub"
	"github.com/imgbuild/imgbuild/layers"
)

// signedBoot are the programs of a root tree that Secure Boot accepts. All are paths in the tree.
type signedBoot struct {
	shim     string
	grub     string
	grubFile string // the name under which shim starts GRUB
	manager  string // MokManager, or empty
	mokFile  string // its name on the ESP
}

// efiSuffix is the architecture in the names of EFI programs.
func efiSuffix(arch string) string {
	if arch == "aarch64" {
		return "aa64"
	}
	return "x64"
}

// findSigned looks for a signed shim and GRUB where Debian, Fedora and SUSE install them. It returns nil if the tree lacks one of them.
func findSigned(tree *layers.Tree, arch string) *signedBoot {
	suffix := efiSuffix(arch)
	platform, _, err := grub.EFIPlatform(arch)
	if err != nil {
		return nil
	}
	shim := firstMatch(tree, "usr/lib/shim/shim"+suffix+".efi.signed", "usr/lib/shim/shim"+suffix+".efi.signed.latest", "usr/share/efi/"+arch+"/shim.efi",
		"boot/efi/EFI/*/shim"+suffix+".efi", "usr/lib64/efi/shim.efi")
	loader := firstMatch(tree, "usr/lib/grub/"+platform+"-signed/grub"+suffix+".efi.signed", "usr/lib/grub2/"+platform+"-signed/grub"+suffix+".efi.signed",
		"usr/share/efi/"+arch+"/grub.efi", "boot/efi/EFI/*/grub"+suffix+".efi", "usr/lib64/efi/grub.efi")
	if shim == "" || loader == "" {
		return nil
	}
	s := &signedBoot{shim: shim, grub: loader, grubFile: "grub" + suffix + ".efi", mokFile: "mm" + suffix + ".efi"}
	if path.Base(loader) == "grub.efi" { // SUSE's shim looks for GRUB and MokManager by other names
		s.grubFile, s.mokFile = "grub.efi", "MokManager.efi"
	}
	s.manager = firstMatch(tree, "usr/lib/shim/mm"+suffix+".efi.signed", "usr/lib/shim/mm"+suffix+".efi", "usr/share/efi/"+arch+"/MokManager.efi",
		"boot/efi/EFI/*/mm"+suffix+".efi", "usr/lib64/efi/MokManager.efi")
	return s
}

// firstMatch returns the first of the paths, in which one component may be "*", that is a file of the tree.
func firstMatch(tree *layers.Tree, patterns ...string) string {
	for _, pattern := range patterns {
		names := []string{pattern}
		if before, after, ok := strings.Cut(pattern, "/*/"); ok {
			names = nil
			if _, dir, err := tree.Resolve(before); err == nil && dir.IsDir() {
				for _, name := range dir.Names() {
					names = append(names, before+"/"+name+"/"+after)
				}
			}
		}
		for _, name := range names {
			if _, node, err := tree.Resolve(name); err == nil && node.IsRegular() && node.Size > 0 {
				return name
			}
		}
	}
	return ""
}

// vendor returns the directory of the ESP in which the signed GRUB of a distribution looks for its configuration.
func vendor(osID string) string {
	switch osID {
	case "rhel":
		return "redhat"
	case "opensuse-leap", "opensuse-tumbleweed":
		return "opensuse"
	}
	return osID
}

// espTree adds the boot loader to what the tree already had in /boot/efi. full is the whole root tree.
func (d *design) espTree(ctx context.Context, full, esp *layers.Tree, scratch string) (*layers.Tree, error) {
	if !d.bootloader {
		return esp, nil
	}
	edit := esp.Edit(layers.TimespecOf(d.ids.Epoch))
	platform, bootFile, err := grub.EFIPlatform(d.arch)
	if err != nil {
		return nil, err
	}
	const dir = "EFI/BOOT"
	if d.signed == nil {
		core, err := d.efiCore(ctx, platform, scratch)
		if err != nil {
			return nil, err
		}
		if err := edit.WriteFile(onFAT(edit, path.Join(dir, bootFile)), core, 0o644); err != nil {
			return nil, fmt.Errorf("writing the EFI system partition: %w", err)
		}
		return edit.Tree(), nil
	}
	if err := d.putSigned(edit, full, dir, bootFile); err != nil {
		return nil, fmt.Errorf("writing the EFI system partition: %w", err)
	}
	return edit.Tree(), nil
}

// putSigned copies the signed programs and writes a grub.cfg for each place where GRUB may look.
func (d *design) putSigned(edit *layers.Editor, full *layers.Tree, dir, bootFile string) error {
	if err := edit.MkdirAll(onFAT(edit, dir), 0o755); err != nil {
		return err
	}
	for _, file := range []struct{ from, to string }{
		{d.signed.shim, bootFile}, {d.signed.grub, d.signed.grubFile}, {d.signed.manager, d.signed.mokFile},
	} {
		if file.from == "" {
			continue
		}
		_, node, err := full.Resolve(file.from)
		if err != nil {
			return err
		}
		copied := *node
		if err := edit.Put(onFAT(edit, path.Join(dir, file.to)), &copied); err != nil {
			return err
		}
	}
	stub := []byte(grub.Stub(d.device(), d.onDevice(d.grubDir)))
	places := []string{dir}
	if id := osID(full); id != "" {
		places = append(places, "EFI/"+vendor(id))
	}
	for _, place := range places {
		if err := edit.WriteFile(onFAT(edit, path.Join(place, "grub.cfg")), stub, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// onFAT returns name in the spelling of what is there already: FAT doesn't tell upper from lower case, but keeps it.
func onFAT(edit *layers.Editor, name string) string {
	at := "."
	for part := range strings.SplitSeq(name, "/") {
		if dir, err := edit.Lookup(at); err == nil {
			for _, other := range dir.Names() {
				if strings.EqualFold(other, part) {
					part = other
					break
				}
			}
		}
		at = path.Join(at, part)
	}
	return at
}

func (d *design) efiCore(ctx context.Context, platform, scratch string) ([]byte, error) {
	modules, err := d.efiGrub.Extract(ctx, scratch)
	if err != nil {
		return nil, err
	}
	return grub.MakeImage(ctx, grub.ImageSpec{
		Platform: platform, Modules: modules, Prefix: d.onDevice(d.grubDir), Config: grub.Early(d.device(), d.onDevice(d.grubDir)), Names: grub.CoreModules(platform),
	}, scratch)
}
