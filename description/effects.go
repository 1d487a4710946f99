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
		if kind, _ := e.attr("type"); rule == packagesRule && collapse(kind) == "systemfiles" {
			img.Warnings.add(e.attrPos("type"), "remove it", "<packages> of type systemfiles has no effect: %s", noSystemFiles)
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
		if below == nil || below.Rule.Foreign || !r.counts(c, below.Rule) || c.name == "type" && rule == preferencesRule && c != r.typ {
			continue
		}
		if rule == imageRule && c.name == "packages" && !r.packagesCount(c) {
			continue
		}
		r.counting(c, below.Rule, fn)
	}
}

// counts reports whether an element counts for the profiles and the
// architecture, where its rule has attributes for that.
func (r *resolver) counts(e *element, rule *elementRule) bool {
	arch := rule.attr("arch")
	return r.matches(e) || arch != nil && arch.Value != archList
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
	needsSquashfs = &need{Text: `a squashfs: filesystem="squashfs", overlayroot="true", or the image types squashfs and iso`, met: func(img *Image) bool {
		t := &img.Type
		return t.Filesystem == "squashfs" || t.OverlayRoot || t.Image == "squashfs" || t.Image == "iso"
	}}
	needsErofs = &need{Text: `filesystem="erofs"`, met: func(img *Image) bool { return img.Type.Filesystem == "erofs" }}
	needsBtrfs = &need{Text: `filesystem="btrfs"`, met: func(img *Image) bool { return img.Type.VolumeManagement == "btrfs" }}
	needsLVM   = &need{Text: `LVM, which a <systemdisk> brings`, Refused: true, met: func(img *Image) bool { return img.Type.VolumeManagement == "lvm" }}
	needsLUKS  = &need{Text: "luks", Refused: true, met: func(img *Image) bool { return img.Type.LUKS != nil }}
	needsBoot  = &need{Text: `bootpartition="true"`, met: func(img *Image) bool { return img.Type.BootPartition.Or(false) }}
	// A file system that is no part of a disk is mounted by whoever uses it.
	needsMounted = &need{Text: `the image type oem, or compress=... with btrfs`, met: func(img *Image) bool {
		t := &img.Type
		return t.Image == "oem" || (t.Image == "btrfs" || t.Filesystem == "btrfs") && strings.Contains(t.FSMountOptions, "compress")
	}}
	needsSpare = &need{Text: "spare_part", met: func(img *Image) bool { return img.Type.SparePart > 0 }}

	needsOverlay   = &need{Text: `overlayroot="true"`, Refused: true, met: func(img *Image) bool { return img.Type.OverlayRoot }}
	needsSnapshot  = &need{Text: "a btrfs root in a snapshot", met: func(img *Image) bool { return img.Type.BtrfsRootIsSnapshot && img.Type.VolumeManagement == "btrfs" }}
	needsVerity    = &need{Text: "verity_blocks", Refused: true, met: func(img *Image) bool { return img.Type.VerityBlocks != "" }}
	needsIntegrity = &need{Text: `standalone_integrity="true"`, Refused: true, met: func(img *Image) bool { return img.Type.StandaloneIntegrity }}
	needsEFI       = &need{Text: `firmware="efi" or "uefi"`, met: func(img *Image) bool { return img.Type.Firmware == "efi" || img.Type.Firmware == "uefi" }}
	needsInstall   = &need{Text: `installiso="true" or installstick="true"`, Refused: true, met: func(img *Image) bool { return img.Type.InstallISO || img.Type.InstallStick }}
	needsMedium    = &need{Text: "an installation medium, or the image type iso", Refused: true, met: func(img *Image) bool {
		t := &img.Type
		return t.Image == "iso" || t.InstallISO || t.InstallStick || t.InstallPXE
	}}
	needsISO = &need{Text: `the image type iso, or installiso="true"`, Refused: true, met: func(img *Image) bool {
		return img.Type.Image == "iso" || img.Type.InstallISO || img.Type.InstallStick
	}}
	needsMSDOS      = &need{Text: "an msdos partition table", met: func(img *Image) bool { return img.Type.MSDOSTable() }}
	needsGPT        = &need{Text: "a GPT", met: func(img *Image) bool { return !img.Type.MSDOSTable() }}
	needsSwap       = &need{Text: "<oem-swap>true</oem-swap>", met: func(img *Image) bool { return img.Type.OEM.Swap }}
	needsPersistent = &need{Text: `hybridpersistent="true"`, met: func(img *Image) bool { return img.Type.HybridPersistent }}
	needsVESA       = &need{Text: "the number of a VESA mode from 0x301 to 0x31b, such as 0x317 for 1024x768", met: func(img *Image) bool { return img.Type.GfxMode() != "" }}
	needsDerived    = &need{Text: "derived_from", met: func(img *Image) bool { return len(img.Type.DerivedFrom) > 0 }}
	needsSerial     = &need{Text: "serial among the terminals of the boot loader", met: func(img *Image) bool {
		return contains(strings.Fields(img.Type.Bootloader.Console), "serial")
	}}
	needsZipl = &need{Text: `name="zipl" or "grub2_s390x_emu"`, Refused: true, met: func(img *Image) bool {
		return img.Type.Bootloader.Name == "zipl" || img.Type.Bootloader.Name == "grub2_s390x_emu"
	}}
	needsMachine = &need{Text: `format="vmdk", "ova" or "vagrant", or a Xen guest`, met: func(img *Image) bool {
		t := &img.Type
		return t.Format == "vmdk" || t.Format == "ova" || t.Format == "vagrant" || t.XenMachine()
	}}
	needsVMware = needsFormat("vmdk", "ova", "vagrant")
	needsOVF    = needsFormat("ova", "vagrant")
	needsXen    = &need{Text: "a Xen guest", met: func(img *Image) bool { return img.Type.XenMachine() }}
)

// needsLimits is for the upper limits of a machine.
var needsLimits = &need{Text: `format="ova" or "vagrant", or a Xen guest`, met: func(img *Image) bool { return needsOVF.met(img) || img.Type.XenMachine() }}

// needsOwnMachine is for what is not left to Vagrant.
var needsOwnMachine = &need{Text: `format="vmdk" or "ova", or a Xen guest`, met: func(img *Image) bool {
	return img.Type.Format == "vmdk" || img.Type.Format == "ova" || img.Type.XenMachine()
}}

// needsVolumes is for settings of volumes beside the root.
var needsVolumes = &need{Text: "volumes: LVM, or subvolumes of btrfs", met: func(img *Image) bool { return img.Type.VolumeManagement != "" }}

// Why some settings do nothing.
const (
	noKiwiInitrd   = "initrds of kiwi's own kind are not made; dracut or initramfs-tools of the root tree makes the initrd"
	noRecovery     = "only initrds of kiwi's own kind restore a machine from such an archive, and none is made"
	noSystemFiles  = "no list of files is made that flake-pilot would take from the host"
	noInner        = "imgbuild puts no containers into an image yet; pull them in config.sh, or at the first boot"
	noBLS          = "grub.cfg has the entries of all kernels; the distribution's update-grub or grub2-mkconfig makes others"
	noBootPrograms = "imgbuild installs boot loaders itself and runs none of their programs"
	noBootEntries  = "no image makes an entry in the firmware's boot list"
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
	return &need{Text: text, met: func(img *Image) bool { return contains(formats, img.Type.Format) }}
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
	return &need{Text: text, met: func(img *Image) bool {
		// Without <packagemanager> the root tree decides, which nobody knows here.
		return !img.Has("packagemanager") || contains(names, img.PackageManager)
	}}
}
