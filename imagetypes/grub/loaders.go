package grub

import (
	"errors"
	"fmt"
	"log/slog"
	"strings"

	"github.com/imgbuild/imgbuild/layers"
)

// Wanted says what an image is to be started by.
type Wanted struct {
	Arch   string // as uname -m names it
	BIOS   bool
	EFI    bool
	Secure bool // UEFI by signed programs, if the root tree has them
	Either bool // one of BIOS and UEFI is enough: nobody has asked for this firmware
	// Image is what messages call the image, such as "disk"; Firmware is what the description says.
	Image, Firmware string
}

// Loaders are the boot loaders of an image.
type Loaders struct {
	BIOS   *Modules // nil: no BIOS starts it
	EFI    *Modules // nil: no core image of our own for UEFI
	Signed *Signed  // nil: no Secure Boot
}

// FindLoaders looks for boot loaders in the root tree and, but for signed ones, on this machine. One that an image can do without is missed in the log alone.
func FindLoaders(tree *layers.Tree, w Wanted, log *slog.Logger) (Loaders, error) {
	var l Loaders
	if w.BIOS {
		modules, err := Find(tree, PlatformBIOS)
		switch {
		case err == nil:
			l.BIOS = modules
			log.Debug("GRUB for BIOS", "modules", modules.String())
		case !w.EFI:
			return Loaders{}, fmt.Errorf("firmware=\"bios\": %w", err)
		default:
			log.Warn("the "+w.Image+" will boot by UEFI only", "reason", err.Error())
		}
	}
	if !w.EFI {
		return l, nil
	}
	platform, _, err := EFIPlatform(w.Arch)
	if err != nil {
		return Loaders{}, err
	}
	if w.Secure {
		if l.Signed = FindSigned(tree, w.Arch); l.Signed == nil && !w.Either {
			log.Warn("the " + w.Image + " will not boot with Secure Boot switched on: the root tree has no signed shim and GRUB; " +
				"add shim-signed and grub-efi-amd64-signed (Debian), shim-x64 and grub2-efi-x64 (Fedora) or shim (openSUSE) to the description")
		}
	}
	modules, err := Find(tree, platform)
	switch {
	case err == nil:
		l.EFI = modules
		log.Debug("GRUB for UEFI", "modules", modules.String())
	case l.Signed != nil && errors.Is(err, ErrNoModules):
	case w.Either && l.BIOS != nil:
		log.Warn("the "+w.Image+" will boot by BIOS only", "reason", err.Error())
	default:
		return Loaders{}, fmt.Errorf("firmware=%q: %w", w.Firmware, err)
	}
	return l, nil
}

// Modules returns the modules of all platforms.
func (l Loaders) Modules() []*Modules {
	var list []*Modules
	for _, m := range []*Modules{l.BIOS, l.EFI} {
		if m != nil {
			list = append(list, m)
		}
	}
	return list
}

// String says for people what starts the image.
func (l Loaders) String() string {
	var ways []string
	if l.BIOS != nil {
		ways = append(ways, "BIOS (GRUB from "+l.BIOS.String()+")")
	}
	switch {
	case l.Signed != nil:
		ways = append(ways, "UEFI with Secure Boot ("+l.Signed.Shim+")")
	case l.EFI != nil:
		ways = append(ways, "UEFI (GRUB from "+l.EFI.String()+")")
	}
	return strings.Join(ways, ", ")
}
