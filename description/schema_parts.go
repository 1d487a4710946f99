package description

// The elements inside <type>.

var optionAttrs = []attrRule{
	{Name: "name", Value: text, Required: true, Doc: "The option."},
	{Name: "value", Value: text, Doc: "Its value."},
}

var bootloaderRule = &elementRule{
	Name:  "bootloader",
	Doc:   "The boot loader and its settings.",
	Types: onBootloader,
	Attrs: []attrRule{
		{Name: "name", Value: oneOf("grub2", "isolinux", "grub2_s390x_emu", "systemd_boot", "custom", "zipl").since(v8_0, "zipl").until(v7_6, "isolinux"), Required: true, Default: "grub2", Doc: "The boot loader; custom leaves it to the scripts editbootconfig and editbootinstall."},
		{Name: "console", Value: oldConsole, OldValue: oldestConsole, Until: v8_3, Doc: "GRUB's terminals: the first word for output, further ones for input."},
		{Name: "output_console", Value: oneOf("none", "console", "gfxterm", "serial", "vga_text", "mda_text", "morse", "spkmodem"), Since: v8_4, Doc: "GRUB's output terminal."},
		{Name: "input_console", Value: oneOf("none", "console", "serial", "at_keyboard", "usb_keyboard"), Since: v8_4, Doc: "GRUB's input terminal."},
		{Name: "serial_line", Value: text, effect: effect{Needs: needsSerial}, Doc: "GRUB's serial command."},
		{Name: "timeout", Value: number, Doc: "Seconds that the menu is shown; 10 by default."},
		{Name: "timeout_style", Value: oneOf("countdown", "hidden", "menu"), Doc: "What is shown before the menu (grub2)."},
		{Name: "targettype", Value: oneOf("CDL", "FBA", "LDL", "SCSI"), effect: effect{Needs: needsZipl}, Doc: "The kind of disk on s390.", KIWI: "does not know LDL in schema 7.6, though its documents show it"},
		{Name: "grub_template", Value: text, effect: effect{Needs: needsISO}, Doc: "A template for the GRUB configuration of ISOs, a file relative to the description. In it $name and ${name} stand for search_params, default_boot, kernel_file, initrd_file, boot_options, failsafe_boot_options, gfxmode, theme, boot_timeout, boot_timeout_style, serial_line_setup, title, bootpath, boot_directory_name, efi_image_name, terminal_setup and, of a Xen host, hypervisor, $$ for a dollar sign."},
		{Name: "use_disk_password", Value: boolean, Default: "false", effect: effect{Needs: needsLUKS}, Doc: "Store the disk's passphrase in the boot loader's configuration, in clear text."},
		{Name: "bls", Value: boolean, Since: v8_0, effect: effect{Idle: noBLS}, Doc: "Have entries of the Boot Loader Specification in GRUB's menu."},
	},
	Children: []childRule{
		{optional, &elementRule{
			Name: "bootloadersettings",
			Doc:  "Arguments for the boot loader's own programs.",
			Children: []childRule{
				{any0, &elementRule{Name: "shimoption", Doc: "An argument for shim-install.", effect: effect{Idle: noBootPrograms}, Attrs: optionAttrs}},
				{any0, &elementRule{Name: "installoption", Doc: "An argument for grub-install.", effect: effect{Idle: noBootPrograms}, Attrs: optionAttrs}},
				{any0, &elementRule{Name: "configoption", Doc: "An argument for grub-mkconfig.", effect: effect{Idle: noBootPrograms}, Attrs: optionAttrs}},
			},
		}},
		{any0, &elementRule{
			Name:   "securelinux",
			Doc:    "Secure execution on s390.",
			effect: effect{Needs: needsZipl},
			Since:  v8_0,
			Attrs: []attrRule{
				{Name: "hkd_ca_cert", Value: text, Required: true, Doc: "The certificate of the authority."},
				{Name: "hkd_sign_cert", Value: text, Required: true, Doc: "The certificate of the signing key."},
			},
			Children: []childRule{
				{some, &elementRule{Name: "hkd_cert", Doc: "A host key document.", Attrs: []attrRule{nameAttr}}},
				{any0, &elementRule{Name: "hkd_revocation_list", Doc: "A revocation list.", Attrs: []attrRule{nameAttr}}},
			},
		}},
	},
}

var containerConfigRule = &elementRule{
	Name:  "containerconfig",
	Doc:   "The configuration of a container.",
	Types: "docker oci appx wsl",
	Attrs: []attrRule{
		{Name: "name", Value: text, Required: true, Doc: "The name of the container."},
		{Name: "tag", Value: text, effect: effect{For: onContainer}, Doc: "Its tag; latest by default."},
		{Name: "additionalnames", Value: text, effect: effect{For: onContainer}, Doc: "Further names, with commas between: name:tag, name or :tag."},
		{Name: "maintainer", Value: text, effect: effect{For: onContainer}, Doc: "The author; by default that of the description."},
		{Name: "user", Value: text, effect: effect{For: onContainer}, Doc: "The user that its program runs as."},
		{Name: "workingdir", Value: text, effect: effect{For: onContainer}, Doc: "The directory that its program starts in."},
	},
	Children: []childRule{
		{optional, commandRule("entrypoint", "The program of the container.")},
		{optional, commandRule("subcommand", "The program or arguments after the entry point; a user of the container can replace them.")},
		{optional, &elementRule{Name: "expose", effect: effect{For: onContainer}, Doc: "Ports that the container listens at.", Children: []childRule{
			{some, &elementRule{Name: "port", Doc: "One port.", Attrs: []attrRule{
				{Name: "number", Value: portNumber, Required: true, Doc: "Its number, with /tcp or /udp if wanted."}}}}}}},
		{optional, &elementRule{Name: "volumes", effect: effect{For: onContainer}, Doc: "Directories that are volumes.", Children: []childRule{
			{some, &elementRule{Name: "volume", Doc: "One directory.", Attrs: []attrRule{nameAttr}}}}}},
		{optional, textElement("stopsignal", text, "The signal that stops the container.").with(effect{For: onContainer}).since(v8_0)},
		{optional, &elementRule{Name: "environment", effect: effect{For: onContainer}, Doc: "Environment variables.", Children: []childRule{
			{some, pairRule("env", "One variable.")}}}},
		{optional, &elementRule{Name: "labels", effect: effect{For: onContainer}, Doc: "Labels.", Children: []childRule{
			{some, pairRule("label", "One label.")}}}},
		{optional, &elementRule{
			Name:   "history",
			Doc:    "The history entry; the text is its comment.",
			Text:   text,
			effect: effect{For: onContainer + " appx"},
			Attrs: []attrRule{
				{Name: "author", Value: text, effect: effect{For: onContainer}, Doc: "The author."},
				{Name: "created_by", Value: text, Doc: "What made it."},
				{Name: "application_id", Value: text, effect: effect{For: "appx"}, Doc: "The application of a WSL package."},
				{Name: "launcher", Value: text, effect: effect{For: "appx"}, Doc: "The launcher of a WSL package."},
				{Name: "package_version", Value: packageVer, effect: effect{For: "appx"}, Doc: "The version of a WSL package."},
			},
		}},
	},
}

func commandRule(name, doc string) *elementRule {
	return &elementRule{
		Name:   name,
		Doc:    doc,
		effect: effect{For: onContainer},
		Attrs: []attrRule{
			{Name: "execute", Value: text, Excludes: "clear", Doc: "The program."},
			{Name: "clear", Value: boolean, Doc: "Have none, whatever the base container says."},
		},
		Children: []childRule{{any0, &elementRule{Name: "argument", Doc: "One argument.", Attrs: []attrRule{nameAttr}}}},
	}
}

func pairRule(name, doc string) *elementRule {
	return &elementRule{Name: name, Doc: doc, Attrs: []attrRule{
		{Name: "name", Value: text, Required: true, Doc: "Its name."},
		{Name: "value", Value: text, Required: true, Doc: "Its value."},
	}}
}

var machineRule = &elementRule{
	Name:   "machine",
	Doc:    "The virtual machine that an image is for.",
	effect: effect{For: onRoot, Needs: needsMachine},
	Attrs: []attrRule{
		{Name: "memory", Value: number, Doc: "Its memory in MiB."},
		{Name: "ncpus", Value: number, Doc: "The number of its processors."},
		{Name: "HWversion", Value: integer, effect: effect{For: onDisk, Needs: needsFormat("vmdk", "ova")}, Doc: "The version of its virtual hardware (vmdk, ova)."},
		{Name: "guestOS", Value: text, effect: effect{For: onDisk, Needs: needsVMware}, Doc: "The guest system, as VMware names it: otherlinux-64 by default (vmdk, ova, vagrant for virtualbox)."},
		{Name: "arch", Value: oneOf("ix86", "x86_64"), effect: effect{For: onDisk, Needs: needsVMware}, Doc: "Its architecture, for the default of guestOS."},
		{Name: "ovftype", Value: oneOf("zvm", "powervm", "xen", "vmware"), effect: effect{For: onDisk, Needs: needsFormat("ova")}, Doc: "The kind of ova: vmware, which VirtualBox reads too, or none."},
		{Name: "xen_loader", Value: oneOf("hvmloader", "pygrub", "pvgrub"), Doc: "What loads a Xen guest; without one the host loads the kernel that lies beside the image."},
		{Name: "min_memory", Value: number, effect: effect{For: onDisk, Needs: needsOVF}, Doc: "The least memory in MiB (ova)."},
		{Name: "max_memory", Value: number, effect: effect{Needs: needsLimits}, Doc: "The most memory in MiB (ova, Xen)."},
		{Name: "min_cpu", Value: number, effect: effect{For: onDisk, Needs: needsOVF}, Doc: "The least number of processors (ova)."},
		{Name: "max_cpu", Value: number, effect: effect{Needs: needsLimits}, Doc: "The largest number of processors (ova, Xen)."},
	},
	Children: []childRule{
		{any0, textElement("vmconfig-entry", text, "A line for the machine's configuration file; in an ova key = \"value\".").with(effect{Needs: needsOwnMachine})},
		{optional, &elementRule{
			Name: "vmdisk",
			Doc:  "Its disk.",
			Attrs: []attrRule{
				{Name: "disktype", Value: text, effect: effect{Idle: "controller and diskmode say what kind of disk it is"}, Doc: "The type of the disk (ova)."},
				{Name: "controller", Value: oneOf("ide", "buslogic", "lsilogic", "lsisas1068", "legacyESX", "pvscsi"), effect: effect{For: onDisk, Needs: needsVMware}, Doc: "The controller; ide by default (vmdk, ova)."},
				{Name: "id", Value: number, effect: effect{For: onDisk, Needs: needsVMware}, Doc: "The number of the disk at it (vmdk, ova)."},
				{Name: "device", Value: text, effect: effect{Needs: needsXen}, Doc: "The device in the guest, such as xvda (Xen)."},
				{Name: "diskmode", Value: oneOf("monolithicSparse", "monolithicFlat", "twoGbMaxExtentSparse", "twoGbMaxExtentFlat", "streamOptimized"), effect: effect{For: onDisk, Needs: needsFormat("vmdk", "ova")}, Doc: "The kind of vmdk; of an ova streamOptimized."},
			},
		}},
		{optional, &elementRule{
			Name:   "vmdvd",
			Doc:    "Its DVD drive, empty.",
			effect: effect{For: onDisk, Needs: needsVMware},
			Attrs: []attrRule{
				{Name: "controller", Value: oneOf("ide", "scsi"), Required: true, Doc: "The controller."},
				{Name: "id", Value: number, Required: true, Doc: "The number of the drive at it."},
			},
		}},
		{any0, &elementRule{
			Name:   "vmnic",
			Doc:    "A network card. Vagrant adds its own.",
			effect: effect{Needs: needsOwnMachine},
			Attrs: []attrRule{
				{Name: "interface", Value: text, Required: true, Doc: "The number of the card; for a Xen guest also the bridge of the host that it is connected to."},
				{Name: "driver", Value: text, Doc: "The model; of a Xen guest, with hvmloader."},
				{Name: "mac", Value: macAddress, Doc: "Its address."},
				{Name: "mode", Value: text, Doc: "How it is connected; a Xen guest: bridged, nat, routed or openvswitch."},
			},
		}},
	},
}

var oemConfigRule = &elementRule{
	Name:   "oemconfig",
	Doc:    "How a disk behaves at its first boot, and how it is installed.",
	effect: effect{For: onDisk},
	Children: []childRule{
		{optional, textElement("oem-boot-title", text, "The title of the boot menu.").with(effect{Idle: noKiwiInitrd})},
		{optional, textElement("oem-bootwait", boolean, "Halt after the installation.").with(effect{Idle: noKiwiInitrd})},
		{optional, textElement("oem-resize", boolean, "Grow the root to the size of the disk at boot; true by default. It takes dracut in the root tree, with KIWI's module kiwi-repart.")},
		{optional, textElement("oem-resize-once", boolean, "Grow it at the first boot only.").with(effect{AtBoot: true})},
		{optional, textElement("oem-device-filter", text, "A regular expression of devices that are not installed to.").with(effect{Needs: needsMedium, AtBoot: true})},
		{optional, textElement("oem-nic-filter", text, "A regular expression of network cards that are not used.").with(effect{Idle: noKiwiInitrd})},
		{optional, textElement("oem-inplace-recovery", boolean, "The recovery archive is part of the image.").with(effect{Idle: noRecovery})},
		{optional, textElement("oem-kiwi-initrd", boolean, "Keep the initrd of kiwi's own kind.").with(effect{Idle: noKiwiInitrd})},
		{optional, textElement("oem-multipath-scan", boolean, "Have multipath in the initrd.").with(effect{AtBoot: true})},
		{optional, textElement("oem-vmcp-parmfile", text, "The parameter file on s390.").with(effect{Idle: noKiwiInitrd})},
		{optional, textElement("oem-partition-install", boolean, "Install into a partition.").with(effect{Idle: noKiwiInitrd})},
		{optional, textElement("oem-reboot", boolean, "Reboot after the installation.").with(effect{Needs: needsMedium, AtBoot: true})},
		{optional, textElement("oem-reboot-interactive", boolean, "Ask before that reboot.").with(effect{Needs: needsMedium, AtBoot: true})},
		{optional, textElement("oem-recovery", boolean, "Make a recovery archive.").with(effect{Idle: noRecovery})},
		{optional, textElement("oem-recoveryID", number, "The type of the recovery partition.").with(effect{Idle: noRecovery})},
		{optional, textElement("oem-recovery-part-size", number, "The size of the recovery partition in MiB.").with(effect{Idle: noRecovery})},
		{optional, textElement("oem-shutdown", boolean, "Switch off after the installation.").with(effect{Needs: needsMedium, AtBoot: true})},
		{optional, textElement("oem-shutdown-interactive", boolean, "Ask before switching off.").with(effect{Needs: needsMedium, AtBoot: true})},
		{optional, textElement("oem-silent-boot", boolean, "Boot without messages the first time.").with(effect{Idle: noKiwiInitrd})},
		{optional, textElement("oem-silent-install", boolean, "Show no progress of the installation.").with(effect{Needs: needsMedium, AtBoot: true})},
		{optional, textElement("oem-silent-verify", boolean, "Show no progress of the verification.").with(effect{Needs: needsMedium, AtBoot: true})},
		{optional, textElement("oem-skip-verify", boolean, "Verify nothing.").with(effect{Needs: needsMedium, AtBoot: true})},
		{optional, textElement("oem-swap", boolean, "Have a swap partition or volume.")},
		{optional, textElement("oem-swapsize", number, "Its size in MiB; 128 by default.").with(effect{Needs: needsSwap})},
		{optional, textElement("oem-swapname", text, "The name of a swap volume; LVSwap by default.").with(effect{Needs: needsLVM})},
		{optional, textElement("oem-systemsize", number, "The size of the root in MiB: that of the partition, or where the root grows the size that it grows to.").with(effect{AtBoot: true})},
		{optional, textElement("oem-unattended", boolean, "Ask nothing during the installation.").with(effect{Needs: needsMedium, AtBoot: true})},
		{optional, textElement("oem-unattended-id", text, "The device to install to.").with(effect{Needs: needsMedium, AtBoot: true})},
	},
}

var sizeRule = &elementRule{
	Name:   "size",
	Doc:    "The size of the disk or file system. Without it, it is as large as its content needs.",
	effect: effect{For: onSize},
	Text:   number,
	Attrs: []attrRule{
		{Name: "unit", Value: oneOf("M", "G"), Default: "M", Doc: "MiB or GiB."},
		{Name: "additive", Value: boolean, Default: "false", Doc: "The size comes on top of what the content needs."},
		{Name: "unpartitioned", Value: number, effect: effect{For: onDisk}, Doc: "So much of the end of the disk belongs to no partition; in the same unit.", KIWI: "takes it for MiB before the unit counts"},
	},
}

var systemDiskRule = &elementRule{
	Name:   "systemdisk",
	Doc:    "Logical volumes, or subvolumes of a btrfs root.",
	effect: effect{For: onDisk},
	Attrs: []attrRule{
		{Name: "name", Value: text, effect: effect{Needs: needsLVM}, Doc: "The volume group; systemVG by default."},
		{Name: "preferlvm", Value: boolean, Default: "false", Doc: "Use LVM even where the file system has volumes of its own."},
	},
	Children: []childRule{{any0, &elementRule{
		Name:   "volume",
		Doc:    "One volume.",
		effect: effect{Needs: needsVolumes},
		Attrs: []attrRule{
			{Name: "name", Value: text, Required: true, Doc: "The directory it holds; NAME with a mountpoint. @root, or @root=NAME, is the root."},
			{Name: "mountpoint", Value: text, Doc: "The directory it holds, where the name is only a name."},
			{Name: "size", Value: volumeSize, effect: effect{Needs: needsLVM}, Doc: "Its size; all takes the rest."},
			{Name: "freespace", Value: volumeSize, effect: effect{Needs: needsLVM}, Doc: "Its size beyond its content; all takes the rest."},
			{Name: "label", Value: text, effect: effect{Needs: needsLVM}, Doc: "The label of its file system."},
			{Name: "parent", Value: text, effect: effect{Needs: needsBtrfs}, Doc: "What a subvolume lies in, from the top of the file system; / is the top itself. By default it lies in the root's subvolume."},
			{Name: "copy_on_write", Value: boolean, Doc: "false switches copy on write off."},
			{Name: "filesystem_check", Value: boolean, Default: "false", effect: effect{Needs: needsLVM}, Doc: "Check the file system at boot."},
			{Name: "quota", Value: partSize, Since: v8_0, effect: effect{Needs: needsBtrfs}, Doc: "The most it may hold (btrfs)."},
			{Name: "arch", Value: archList, Since: v8_0, Doc: archAttr.Doc},
		},
	}}},
}

var partitionsRule = &elementRule{
	Name:   "partitions",
	Doc:    "Further partitions of the disk.",
	effect: effect{For: onDisk},
	Children: []childRule{{some, &elementRule{
		Name: "partition",
		Doc:  "One partition.",
		Attrs: []attrRule{
			{Name: "name", Value: text, Required: true, Doc: "Its name; in capitals also the label of its file system."},
			{Name: "size", Value: partSize, Required: true, Doc: "Its size."},
			{Name: "filesystem", Value: partitionFilesystems, Doc: "Its file system."},
			{Name: "mountpoint", Value: text, Doc: "Where it is mounted."},
			{Name: "partition_name", Value: shortName, Doc: "Its name in the partition table; p.lxNAME by default."},
			{Name: "partition_type", Value: oneOf("t.linux", "t.raid"), Default: "t.linux", Doc: "Its type in the partition table."},
			{Name: "clone", Value: cloneCount, Doc: "How many copies stand before it."},
			{Name: "part_uuid", Value: uuidOrShort, Since: v8_2, Doc: "Its unique identifier in the partition table."},
		},
	}}},
}

var vagrantConfigRule = &elementRule{
	Name:   "vagrantconfig",
	Doc:    "A vagrant box.",
	effect: effect{For: onDisk, Needs: needsFormat("vagrant")},
	Attrs: []attrRule{
		{Name: "provider", Value: oneOf("libvirt", "virtualbox"), Required: true, Doc: "What runs the box."},
		{Name: "virtualsize", Value: number, Required: true, Doc: "The size of the disk in GB."},
		{Name: "boxname", Value: text, Doc: "Its name; that of the image by default."},
		{Name: "embedded_vagrantfile", Value: text, Doc: "A Vagrantfile to put into the box."},
		{Name: "virtualbox_guest_additions_present", Value: boolean, Default: "false", Doc: "The guest additions are in the image (virtualbox)."},
	},
}

var dracutModuleRule = &elementRule{
	Name: "dracut",
	Doc:  "A dracut module.",
	Attrs: []attrRule{
		{Name: "module", Value: text, Doc: "Its name."},
		{Name: "driver", Value: text, Since: v8_3, Doc: "A kernel driver instead."},
		{Name: "uefi", Value: boolean, Since: v8_3, effect: effect{Idle: "GRUB starts the kernel and the initrd as two files; unified kernel images are not made"}, Doc: "Make a unified kernel image."},
	},
}

var initrdActions = attrRule{Name: "action", Value: oneOf("omit", "add", "set"), Required: true, Doc: "Leave the modules out, add them, or use these alone."}

var installMediaRule = &elementRule{
	Name:   "installmedia",
	Doc:    "The initrd of an installation medium.",
	effect: effect{Needs: needsMedium},
	Children: []childRule{{any0, &elementRule{
		Name:     "initrd",
		Doc:      "A change of its modules.",
		Attrs:    []attrRule{initrdActions},
		Children: []childRule{{any0, dracutModuleRule}},
	}}},
}

var initrdRule = &elementRule{
	Name:     "initrd",
	Doc:      "Changes of what the image's initrd holds. It is for dracut of the root tree; with another tool only added drivers count.",
	effect:   effect{For: "oem pxe kis iso"},
	Since:    v8_2,
	Attrs:    []attrRule{initrdActions},
	Children: []childRule{{any0, dracutModuleRule}},
}

var luksFormatRule = &elementRule{
	Name:     "luksformat",
	Doc:      "Arguments for cryptsetup luksFormat; needs the attribute luks.",
	Types:    onEncrypted,
	Children: []childRule{{some, &elementRule{Name: "option", Doc: "One argument.", Attrs: optionAttrs}}},
}
