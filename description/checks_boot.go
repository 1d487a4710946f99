package description

import "strings"

// Checks of what starts an image.

func bootChecks() []Check {
	return []Check{
		{ID: "xen_uniquely_setup_as_server_or_guest", Reason: "A machine is either a Xen server or a guest.", find: findXen},
		{ID: "efi_mode_for_disk_overlay_correctly_setup", Reason: "The setup of Secure Boot changes the root file system, and an overlay root is read-only by then.", find: findOverlayFirmware},
		{ID: "architecture_supports_iso_firmware_setup", Reason: "Only x86 machines have a BIOS.", find: findFirmware},
		{ID: "firmware_fits_architecture", Reason: "A machine without that firmware does not boot the image.", find: findFirmwareArch},
		{ID: "bootloader_fits_machine", Reason: "A boot loader for another kind of machine does not boot the image.", find: findBootloader},
		{ID: "luksformat_options_valid", Reason: "cryptsetup refuses options that it does not know.", find: findLUKSOptions},
		{ID: "format_options_valid", Reason: "The program that makes the format refuses such options.", find: findFormatOptions},
	}
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

// x86 are the architectures that have a BIOS.
var x86 = []string{"x86_64", "i586", "i686", "ix86"}

func findFirmwareArch(img *Image) (errs Errors) {
	t := &img.Type
	if !t.Has("firmware") || !forTypes("oem iso pxe", t.Image) {
		return nil
	}
	ppc, s390 := strings.HasPrefix(img.Arch, "ppc"), strings.HasPrefix(img.Arch, "s390")
	arch, ok := "", true
	switch t.Firmware {
	case "bios", "ec2":
		// A virtual machine of another architecture ignores the BIOS of a disk; an ISO has its own check.
		arch, ok = "x86", t.Image != "oem" || contains(x86, img.Arch)
	case "ofw", "opal":
		arch, ok = "POWER", ppc
	case "efi", "uefi":
		arch, ok = "x86, ARM, LoongArch and RISC-V", !ppc && !s390
	}
	if !ok {
		errs.add(t.At("firmware"), "leave it out to get what the architecture has", "the firmware %s is of %s, and the image is for %s", t.Firmware, arch, img.Arch)
	}
	return errs
}

func findBootloader(img *Image) (errs Errors) {
	t := &img.Type
	b := &t.Bootloader
	if !b.Has("name") || !forTypes(onBootloader, t.Image) {
		return nil
	}
	s390 := strings.HasPrefix(img.Arch, "s390")
	efi := t.Firmware == "efi" || t.Firmware == "uefi"
	switch {
	case (b.Name == "zipl" || b.Name == "grub2_s390x_emu") && !s390:
		errs.add(b.At("name"), "use grub2", "the boot loader %s is for s390, and the image is for %s", b.Name, img.Arch)
	case (b.Name == "isolinux" || b.Name == "systemd_boot") && s390:
		errs.add(b.At("name"), "use grub2_s390x_emu or zipl", "there is no boot loader %s for %s", b.Name, img.Arch)
	case b.Name == "systemd_boot" && !efi:
		errs.add(b.At("name"), `add firmware="efi" to <type>, or use grub2`, "systemd-boot starts from EFI only, and the firmware is %s", t.Firmware)
	case b.Name == "isolinux" && t.Image == "oem" && !t.InstallISO && !t.InstallStick:
		errs.add(b.At("name"), "use grub2", "ISOLINUX starts from an ISO, and the image is a disk")
	case b.Name == "isolinux" && !contains(x86, img.Arch):
		errs.add(b.At("name"), "use grub2", "ISOLINUX is for x86, and the image is for %s", img.Arch)
	case b.Name == "custom" && t.Image == "oem" && t.EditBootInstall == "" && t.EditBootConfig == "" && t.InitrdSystem != "none" && t.Firmware != "custom":
		// A script of the description may do it as well; nothing to say.
	}
	return errs
}

// luksFormatOptions are the options of cryptsetup-luksFormat(8) that say what
// a volume is like.
var luksFormatOptions = []string{
	"--align-payload", "--batch-mode", "--cipher", "--hash", "--hw-opal", "--hw-opal-only", "--integrity", "--integrity-key-size",
	"--integrity-legacy-padding", "--integrity-no-wipe", "--iter-time", "--iv-large-sectors", "--key-description", "--key-file", "--key-size",
	"--key-slot", "--keyfile-offset", "--keyfile-size", "--keyslot-cipher", "--keyslot-key-size", "--label", "--luks2-keyslots-size", "--luks2-metadata-size",
	"--master-key-file", "--new-keyfile", "--offset", "--pbkdf", "--pbkdf-force-iterations", "--pbkdf-memory", "--pbkdf-parallel", "--progress-frequency",
	"--sector-size", "--subsystem", "--tries", "--type", "--use-random", "--use-urandom", "--uuid", "--verbose", "--verify-passphrase",
	"--volume-key-file", "-c", "-h", "-i", "-l", "-q", "-s", "-S", "-v", "-y", "-M",
}

func findLUKSOptions(img *Image) (errs Errors) {
	for _, o := range img.Type.LUKSFormatOptions {
		name, _, _ := strings.Cut(o.Name, "=")
		if o.Has("name") && !contains(luksFormatOptions, name) {
			errs.add(o.At("name"), DidYouMean(name, luksFormatOptions, "see cryptsetup-luksFormat(8)"), "cryptsetup luksFormat has no option %q", name)
		}
	}
	return errs
}

func findFormatOptions(img *Image) (errs Errors) {
	t := &img.Type
	if t.Format == "vagrant" && len(t.Vagrant) == 0 {
		errs.add(t.At("format"), `add <vagrantconfig provider="libvirt" virtualsize="..."/>`, "the format vagrant needs a <vagrantconfig>")
	}
	if len(t.FormatOptions) > 0 && t.Format == "" {
		errs.add(t.At("formatoptions"), `add format="..."`, "there are options of a format, and no format")
	}
	for _, o := range t.FormatOptions {
		if o.Name == "" || strings.ContainsAny(o.Name, " \t") {
			errs.add(t.At("formatoptions"), "write name=value with commas between", "the option %q of the format has no name", o.Name+"="+o.Value)
		}
	}
	return errs
}
