package grub

import (
	"fmt"
	"path"
	"strings"

	"github.com/imgbuild/imgbuild/layers"
)

// EFIDir is where firmware looks for a boot loader.
const EFIDir = "EFI/BOOT"

// Signed are the programs of a root tree that Secure Boot accepts.
type Signed struct {
	Shim string // path in the tree

	loader     string // GRUB, a path in the tree
	loaderFile string // the name under which shim starts GRUB
	manager    string // MokManager, a path in the tree, or empty
	mokFile    string // its name beside shim
}

// efiSuffix is the architecture in the names of EFI programs.
func efiSuffix(arch string) string {
	if arch == "aarch64" {
		return "aa64"
	}
	return "x64"
}

// FindSigned looks for a signed shim and GRUB where Debian, Fedora and SUSE install them. It returns nil if the tree lacks one of them.
func FindSigned(tree *layers.Tree, arch string) *Signed {
	suffix := efiSuffix(arch)
	platform, _, err := EFIPlatform(arch)
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
	s := &Signed{Shim: shim, loader: loader, loaderFile: "grub" + suffix + ".efi", mokFile: "mm" + suffix + ".efi"}
	if path.Base(loader) == "grub.efi" { // SUSE's shim looks for GRUB and MokManager by other names
		s.loaderFile, s.mokFile = "grub.efi", "MokManager.efi"
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

// Install copies the signed programs to where firmware looks for them, on a file system of its own or in a directory that becomes one, and writes
// stub as a grub.cfg to each place where GRUB may look for it. tree is the whole root tree, osID the ID of its os-release.
func (s *Signed) Install(edit *layers.Editor, tree *layers.Tree, bootFile, osID string, stub []byte) error {
	if err := edit.MkdirAll(OnFAT(edit, EFIDir), 0o755); err != nil {
		return err
	}
	for _, file := range []struct{ from, to string }{{s.Shim, bootFile}, {s.loader, s.loaderFile}, {s.manager, s.mokFile}} {
		if file.from == "" {
			continue
		}
		_, node, err := tree.Resolve(file.from)
		if err != nil {
			return err
		}
		copied := *node
		if err := edit.Put(OnFAT(edit, path.Join(EFIDir, file.to)), &copied); err != nil {
			return err
		}
	}
	places := []string{EFIDir}
	if osID != "" {
		places = append(places, "EFI/"+vendor(osID))
	}
	for _, place := range places {
		if err := edit.WriteFile(OnFAT(edit, path.Join(place, "grub.cfg")), stub, 0o644); err != nil {
			return fmt.Errorf("writing GRUB's configuration: %w", err)
		}
	}
	return nil
}

// OnFAT returns name in the spelling of what is there already: FAT doesn't tell upper from lower case, but keeps it.
func OnFAT(edit *layers.Editor, name string) string {
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
