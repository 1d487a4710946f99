package description

import (
	"path"
	"regexp"
	"strings"
)

// Checks of disks, volumes and what starts them.

func findRootVolumes(img *Image) (errs Errors) {
	for _, v := range img.Type.Volumes {
		if !v.Root && path.Clean("/"+v.RealPath) == "/" {
			errs.add(v.At("name"), `write name="@root", or @root=NAME`, "the volume %q stands for the root", v.RealPath)
		}
	}
	return errs
}

func findFullsize(img *Image) (errs Errors) {
	first := ""
	for _, v := range img.Type.Volumes {
		switch {
		case !v.FullSize:
		case first != "":
			errs.add(v.Pos, "give one of them a size", "the volumes %s and %s both take the rest of the disk", first, v.Name)
		default:
			first = v.Name
		}
	}
	return errs
}

// reservedLabels are labels that the disk's own partitions have.
var reservedLabels = []string{"ROOT", "BOOT", "EFI", "SWAP", "SPARE"}

func findLabels(img *Image) (errs Errors) {
	seen := map[string]bool{}
	for _, v := range img.Type.Volumes {
		own := v.RealPath == "swap" || v.Root
		if v.Label == "" || own && v.Label != "SWAP" && v.Label != "ROOT" {
			continue
		}
		if !own && contains(reservedLabels, v.Label) {
			errs.add(v.At("label"), "choose another label", "the label %s of volume %s is reserved", v.Label, v.Name)
		} else if seen[v.Label] {
			errs.add(v.At("label"), "choose another label", "the label %s is there twice", v.Label)
		}
		seen[v.Label] = true
	}
	return errs
}

func findVolumeLabels(img *Image) (errs Errors) {
	if img.Type.VolumeManagement == "lvm" {
		return nil
	}
	for _, v := range img.Type.Volumes {
		if v.Label != "" {
			errs.add(v.At("label"), `remove it, or write <systemdisk preferlvm="true">`, "the volume %s has a label and is not of LVM", v.Name)
		}
	}
	return errs
}

func findSwapName(img *Image) (errs Errors) {
	if img.Type.OEM.Has("oem-swapname") && img.Type.VolumeManagement != "lvm" {
		errs.add(img.Type.OEM.At("oem-swapname"), "remove it, or add a <systemdisk>", "a swap partition has no name")
	}
	return errs
}

// MSDOSTable reports whether the disk gets an msdos partition table.
func (t *Type) MSDOSTable() bool {
	switch {
	case t.ForceMBR:
		return true
	case t.Firmware == "efi", t.Firmware == "uefi":
		return t.EFIPartTable == "msdos"
	case t.Firmware == "ofw", t.Firmware == "opal":
		return false
	}
	return true
}

func findPartUUID(img *Image) (errs Errors) {
	t := &img.Type
	if t.Image == "oem" && t.DevicePersistency == "by-partuuid" && t.MSDOSTable() {
		errs.add(t.At("devicepersistency"), `use by-uuid, or firmware="efi" with a GPT`, "by-partuuid needs a GPT, and this disk gets an msdos partition table")
	}
	return errs
}

func findXen(img *Image) (errs Errors) {
	if img.Type.XenServer && img.Type.XenGuest() {
		errs.add(img.Type.At("xen_server"), "remove xen_server, or the guest settings of <machine>", "the image is a Xen server and a guest at once")
	}
	return errs
}

func findOverlayFirmware(img *Image) (errs Errors) {
	t := &img.Type
	if t.OverlayRoot && t.Firmware == "uefi" {
		errs.add(t.At("firmware"), `write firmware="efi"`, "an overlay root can't boot with Secure Boot, which the firmware uefi is for")
	}
	return errs
}

func findFirmware(img *Image) (errs Errors) {
	t := &img.Type
	x86 := img.Arch == "x86_64" || img.Arch == "i586" || img.Arch == "i686" || img.Arch == "ix86"
	if (t.Image == "iso" || t.InstallISO || t.InstallStick) && t.Firmware == "bios" && !x86 {
		errs.add(t.At("firmware"), `write firmware="efi"`, "machines of the architecture %s have no BIOS", img.Arch)
	}
	return errs
}

var appxName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9.]*$`)

func findAppx(img *Image) (errs Errors) {
	if img.Type.Image != "appx" {
		return nil
	}
	h := &img.Type.Container.History
	if h.ApplicationID == "" || !appxName.MatchString(h.ApplicationID) {
		errs.add(h.At("application_id"), `write <history application_id="Name" ...> with letters, digits and dots`, "the application id %q is not allowed", h.ApplicationID)
	}
	if h.Launcher == "" || !strings.HasSuffix(h.Launcher, ".exe") {
		errs.add(h.At("launcher"), `write <history launcher="name.exe" ...>`, "the launcher %q is not the name of a Windows program", h.Launcher)
	}
	return errs
}
