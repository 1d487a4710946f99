package description

import (
	"fmt"
	"strings"
)

// What has no effect. Each rule of the table says which image types obey a
// setting, what else it needs, or that nothing obeys it; resolving compares
// that with what counts for the selection, so that nothing is silently ignored.

// idle returns why a setting does nothing in the image, and what to do about
// it, or "" where it is obeyed.
func (f *effect) idle(img *Image) (reason, hint string) {
	switch {
	case f.Idle != "":
		return f.Idle, "remove it"
	case !forTypes(f.For, img.Type.Image):
		return "the image type " + img.Type.Image + " has no use for it", "it is for " + listTypes(f.For)
	case f.Needs != nil && !f.Needs.met(img):
		return "it works only with " + f.Needs.Text, "remove it"
	}
	return "", ""
}

// warnIdle collects the settings that count for the selection and have no
// effect in it.
func (r *resolver) warnIdle(img *Image) {
	r.counting(r.doc.root, imageRule, func(e *element, rule *elementRule) bool {
		if reason, hint := rule.idle(img); reason != "" && !switchedOff(e.text(), rule.Text, "") {
			img.Warnings.add(e.pos, hint, "<%s> has no effect: %s", e.name, reason)
			return false
		}
		for i := range e.attrs {
			a := &e.attrs[i]
			ar := rule.attr(a.name)
			if ar == nil {
				continue
			}
			if reason, hint := ar.idle(img); reason != "" && !switchedOff(a.value, ar.Value, ar.Default) {
				img.Warnings.add(a.pos, hint, "attribute %s of <%s> has no effect: %s", a.name, e.name, reason)
			}
		}
		return true
	})
	img.Warnings = img.Warnings.sorted()
}

// switchedOff reports whether a setting is written and asks for nothing: a
// default, or a switch that is off by default.
func switchedOff(value string, rule *valueRule, def string) bool {
	if rule == nil {
		return false
	}
	if rule.Kind == kindBool {
		on, _ := parseBool(collapse(value))
		wanted, _ := parseBool(def)
		return on == wanted
	}
	return def != "" && collapse(value) == def
}

// counting calls fn for each element that counts for the selection, parents
// first; below one for which fn returns false it does not go.
func (r *resolver) counting(e *element, rule *elementRule, fn func(*element, *elementRule) bool) {
	if !fn(e, rule) {
		return
	}
	for _, c := range e.elements("") {
		below := rule.child(c.name)
		if below == nil || below.Rule.Foreign || !r.matches(c) || c.name == "type" && rule == preferencesRule && c != r.typ {
			continue
		}
		if rule == imageRule && c.name == "packages" && !r.packagesCount(c) {
			continue
		}
		r.counting(c, below.Rule, fn)
	}
}

// packagesCount reports whether a <packages> section is for the image or for
// the chosen type.
func (r *resolver) packagesCount(section *element) bool {
	kind, _ := section.attr("type")
	image, _ := r.typ.attr("image")
	switch kind = collapse(kind); kind {
	case "bootstrap", "image", "delete", "uninstall", "systemfiles":
		return true
	default:
		return kind == collapse(image)
	}
}

// Settings that others need.
var (
	needsSquashfs = &need{`a squashfs: filesystem="squashfs", overlayroot="true", or the image types squashfs and iso`, func(img *Image) bool {
		t := &img.Type
		return t.Filesystem == "squashfs" || t.OverlayRoot || t.Image == "squashfs" || t.Image == "iso"
	}}
	needsErofs = &need{`filesystem="erofs"`, func(img *Image) bool { return img.Type.Filesystem == "erofs" }}
	needsBtrfs = &need{`filesystem="btrfs"`, func(img *Image) bool { return img.Type.VolumeManagement == "btrfs" }}
	needsLVM   = &need{`LVM, which a <systemdisk> brings`, func(img *Image) bool { return img.Type.VolumeManagement == "lvm" }}
	needsLUKS  = &need{"luks", func(img *Image) bool { return img.Type.LUKS != nil }}
	needsSpare = &need{"spare_part", func(img *Image) bool { return img.Type.SparePart > 0 }}

	needsOverlay   = &need{`overlayroot="true"`, func(img *Image) bool { return img.Type.OverlayRoot }}
	needsSnapshot  = &need{"a btrfs root in a snapshot", func(img *Image) bool { return img.Type.BtrfsRootIsSnapshot && img.Type.VolumeManagement == "btrfs" }}
	needsVerity    = &need{"verity_blocks", func(img *Image) bool { return img.Type.VerityBlocks != "" }}
	needsIntegrity = &need{`standalone_integrity="true"`, func(img *Image) bool { return img.Type.StandaloneIntegrity }}
	needsEFI       = &need{`firmware="efi" or "uefi"`, func(img *Image) bool { return img.Type.Firmware == "efi" || img.Type.Firmware == "uefi" }}
	needsInstall   = &need{`installiso="true" or installstick="true"`, func(img *Image) bool { return img.Type.InstallISO || img.Type.InstallStick }}
	needsMedium    = &need{"an installation medium, or the image type iso", func(img *Image) bool {
		t := &img.Type
		return t.Image == "iso" || t.InstallISO || t.InstallStick || t.InstallPXE
	}}
	needsISO = &need{`the image type iso, or installiso="true"`, func(img *Image) bool {
		return img.Type.Image == "iso" || img.Type.InstallISO || img.Type.InstallStick
	}}
	needsMSDOS      = &need{"an msdos partition table", func(img *Image) bool { return img.Type.MSDOSTable() }}
	needsGPT        = &need{"a GPT", func(img *Image) bool { return img.Type.Image == "iso" || !img.Type.MSDOSTable() }}
	needsSwap       = &need{"<oem-swap>true</oem-swap>", func(img *Image) bool { return img.Type.OEM.Swap }}
	needsFixed      = &need{"<oem-resize>false</oem-resize>", func(img *Image) bool { return !img.Type.OEM.Resize.Or(true) }}
	needsPersistent = &need{`hybridpersistent="true"`, func(img *Image) bool { return img.Type.HybridPersistent }}
	needsDerived    = &need{"derived_from", func(img *Image) bool { return len(img.Type.DerivedFrom) > 0 }}
	needsSerial     = &need{"serial among the terminals of the boot loader", func(img *Image) bool {
		return contains(strings.Fields(img.Type.Bootloader.Console), "serial")
	}}
	needsZipl = &need{`name="zipl" or "grub2_s390x_emu"`, func(img *Image) bool {
		return img.Type.Bootloader.Name == "zipl" || img.Type.Bootloader.Name == "grub2_s390x_emu"
	}}
	needsMachine = &need{`format="vmdk", "ova" or "vagrant", or a Xen guest`, func(img *Image) bool {
		t := &img.Type
		return t.Format == "vmdk" || t.Format == "ova" || t.Format == "vagrant" || t.XenGuest()
	}}
	needsXen = &need{"a Xen guest (xen_loader)", func(img *Image) bool { return img.Type.XenGuest() }}
)

// needsFormat is met by disks of these formats.
func needsFormat(formats ...string) *need {
	text := ""
	for i, f := range formats {
		if i > 0 {
			text += " or "
		}
		text += fmt.Sprintf("format=%q", f)
	}
	return &need{text, func(img *Image) bool { return contains(formats, img.Type.Format) }}
}

// needsManager is met by these package managers.
func needsManager(names ...string) *need {
	text := "the package manager"
	for i, n := range names {
		switch {
		case i == 0:
			text += " " + n
		case i == len(names)-1:
			text += " or " + n
		default:
			text += ", " + n
		}
	}
	return &need{text, func(img *Image) bool { return contains(names, img.PackageManager) }}
}
