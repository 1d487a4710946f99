package description

// imageTypes are the image types of the language, KIWI's and after them those
// of imgbuild alone, which every schema version may name.
var imageTypes = []string{
	"btrfs", "cpio", "clicfs", "docker", "ext2", "ext3", "ext4", "iso", "oem", "pxe", "kis",
	"squashfs", "tbz", "xfs", "oci", "appx", "enclave", "erofs", "wsl",
	"tar", "tar.gz", "tar.zst", "cramfs", "reiserfs",
}

// Groups of image types as the attribute table names them.

const (
	onDisk       = "oem"
	onRoot       = "oem pxe kis btrfs ext2 ext3 ext4 squashfs erofs xfs cramfs reiserfs"
	onLabel      = "oem pxe kis ext2 ext3 ext4 xfs btrfs erofs cramfs reiserfs"
	onSize       = "oem pxe kis ext2 ext3 ext4 xfs btrfs reiserfs"
	onContainer  = "docker oci"
	onBootable   = "oem iso pxe kis cpio"
	onEncrypted  = "oem iso pxe kis"
	onBootloader = "oem iso"
)

var rootFilesystems = oneOf("btrfs", "ext2", "ext3", "ext4", "squashfs", "erofs", "xfs").since(v8_0, "erofs")

var partitionFilesystems = oneOf("btrfs", "ext2", "ext3", "ext4", "squashfs", "xfs", "fat32", "fat16")

var typeRule = &elementRule{
	Name: "type",
	Doc:  "One kind of result and how it is made.",
	Attrs: joinAttrs(typeBasicAttrs, typeDiskAttrs, typeBtrfsAttrs, typeProtectionAttrs,
		typeBootAttrs, typeFormatAttrs, typeMediaAttrs, typeContainerAttrs),
	Children: []childRule{
		{optional, bootloaderRule},
		{optional, containerConfigRule},
		{optional, machineRule},
		{optional, oemConfigRule},
		{optional, sizeRule},
		{optional, systemDiskRule},
		{optional, partitionsRule},
		{any0, vagrantConfigRule},
		{optional, installMediaRule},
		{optional, initrdRule},
		{optional, luksFormatRule},
	},
}

func joinAttrs(lists ...[]attrRule) []attrRule {
	var all []attrRule
	for _, l := range lists {
		all = append(all, l...)
	}
	return all
}

var typeBasicAttrs = []attrRule{
	{Name: "image", Value: oneOf(imageTypes...).since(v8_0, "enclave").until(v7_6, "clicfs"), Required: true, Doc: "The kind of result. erofs and wsl, which KIWI knows since 8.0, and tar, tar.gz, tar.zst, cramfs and reiserfs, which are of imgbuild alone, are known in every schema version.", KIWI: "has no tar, tar.gz, tar.zst, cramfs and reiserfs; clicfs has no builder there either"},
	{Name: "primary", Value: boolean, Default: "false", Doc: "This type is built when the user names none."},
	{Name: "filesystem", Value: rootFilesystems, Types: "oem pxe kis iso", OldTypes: "oem pxe kis", effect: effect{For: "oem pxe kis"}, Doc: "The root file system; needed for oem."},
	{Name: "fscreateoptions", Value: text, effect: effect{For: onRoot}, Doc: "Arguments for the program that makes the root file system."},
	{Name: "fsmountoptions", Value: text, effect: effect{For: onRoot, Needs: needsMounted}, Doc: "Mount options of the root file system, also in /etc/fstab."},
	{Name: "rootfs_label", Value: text, Types: "oem pxe kis docker ext2 ext3 ext4 xfs btrfs erofs cramfs reiserfs", effect: effect{For: onLabel}, Doc: "The label of the root file system; ROOT on a disk by default.", KIWI: "refuses it for file systems and obeys it for oem alone"},
	{Name: "squashfscompression", Value: oneOf("uncompressed", "gzip", "lzo", "lz4", "xz", "zstd"), Types: "oem pxe kis iso squashfs", effect: effect{Needs: needsSquashfs}, Doc: "The compression of a squashfs; zstd by default, gzip for a disk whose GRUB reads it (KIWI: xz)."},
	{Name: "erofscompression", Value: text, Types: "oem pxe kis iso erofs", effect: effect{For: "oem pxe kis erofs", Needs: needsErofs}, Doc: "The compression of an erofs, as mkfs.erofs -z takes it; lz4 by default."},
	{Name: "compressed", Value: boolean, Types: "pxe kis", Default: "false", Doc: "Compress the file system inside the archive instead of the archive."},
	{Name: "selinux_policy", Value: oneOf("targeted", "mls", "minimum"), Default: "targeted", Doc: "The SELinux policy whose labels files get."},
	{Name: "bundle_format", Value: text, Doc: "The pattern of the results' names in a bundle: %N name, %P profiles, %A architecture, %I bundle id, %T type, %v version, %M %m %p parts of the version."},
	{Name: "derived_from", Value: text, Types: onContainer, Doc: "The container that the root tree starts from: `docker://`, `obs://` or `file://`.", KIWI: "knows no names without a scheme"},
}

var typeDiskAttrs = []attrRule{
	{Name: "target_blocksize", Value: number, Types: "oem kis", effect: effect{For: onDisk}, Doc: "The sector size of the target in bytes; 512 by default."},
	{Name: "target_removable", Value: boolean, Types: onDisk, Default: "false", effect: effect{Idle: noBootEntries}, Doc: "The disk goes onto a removable device: no entry in the firmware's boot list.", KIWI: "makes an entry in the boot list otherwise"},
	{Name: "disk_start_sector", Value: sector, Types: onDisk, Default: "2048", Doc: "The first sector of the first partition."},
	{Name: "devicepersistency", Value: oneOf("by-uuid", "by-label", "by-partuuid"), effect: effect{For: onDisk}, Doc: "How /etc/fstab and root= name devices; by-uuid by default."},
	{Name: "bootpartition", Value: boolean, Types: onDisk, Doc: "Have a /boot partition, or none; by default where the layout needs one."},
	{Name: "bootpartsize", Value: number, Types: onDisk, effect: effect{Needs: needsBoot}, Doc: "The size of the /boot partition in MiB; 300 by default.", KIWI: "documents 200"},
	{Name: "bootfilesystem", Value: oneOf("btrfs", "ext2", "ext3", "ext4", "xfs", "fat32", "fat16"), Types: onDisk, effect: effect{Needs: needsBoot}, Doc: "The file system of the /boot partition; that of root by default, or ext4 where the root is read-only."},
	{Name: "boot_clone", Value: cloneCount, Types: onDisk, effect: effect{Needs: needsBoot}, Doc: "How many copies of the /boot partition stand before it: the same bytes, mounted by nobody."},
	{Name: "root_clone", Value: cloneCount, Types: onDisk, Doc: "How many copies of the root partition stand before it. With copies devicepersistency is by-partuuid by default."},
	{Name: "efipartsize", Value: number, Types: onDisk, effect: effect{Needs: needsEFI}, Doc: "The size of the EFI system partition in MiB; 20 by default, more where the boot loader needs it."},
	{Name: "efifatimagesize", Value: number, Types: onBootloader, effect: effect{Needs: needsISO}, Doc: "The size of the EFI system partition of an ISO in MiB; 20 by default."},
	{Name: "efiparttable", Value: oneOf("msdos", "gpt"), Types: onBootloader, OldTypes: onDisk, effect: effect{For: onDisk, Needs: needsEFI}, Doc: "The partition table of an EFI disk; gpt by default."},
	{Name: "eficsm", Value: boolean, Types: onBootloader, Default: "true", Since: v8_0, effect: effect{Needs: needsEFI}, Doc: "A disk or ISO for EFI also boots under BIOS (x86-64); true by default."},
	{Name: "dosparttable_extended_layout", Value: boolean, Types: onDisk, Default: "false", effect: effect{Needs: needsMSDOS}, Doc: "With an msdos table, the fourth partition is an extended one that holds all further ones."},
	{Name: "force_mbr", Value: boolean, Types: onDisk, Default: "false", Doc: "Use an msdos partition table where gpt would be the default."},
	{Name: "gpt_hybrid_mbr", Value: boolean, Types: onBootloader, OldTypes: onDisk, Default: "false", effect: effect{For: onDisk, Needs: needsGPT}, Doc: "Write a hybrid MBR beside the GPT."},
	{Name: "mdraid", Value: oneOf("mirroring", "striping"), Types: onDisk, Doc: "Put the root onto a RAID that misses its second disk."},
	{Name: "spare_part", Value: partSize, Types: onDisk, Doc: "The size of a spare partition before the root partition."},
	{Name: "spare_part_fs", Value: oneOf("btrfs", "ext2", "ext3", "ext4", "xfs"), Types: onDisk, effect: effect{Needs: needsSpare}, Doc: "The file system of the spare partition."},
	{Name: "spare_part_mountpoint", Value: text, Types: onDisk, effect: effect{Needs: needsSpare}, Doc: "Where the spare partition is mounted."},
	{Name: "spare_part_fs_attributes", Value: fsAttrs, Types: onDisk, effect: effect{Needs: needsSpare}, Doc: "File attributes of the spare partition's top directory and all in it, with commas between; no-copy-on-write is for btrfs alone."},
	{Name: "spare_part_is_last", Value: boolean, Types: onDisk, Default: "false", effect: effect{Needs: needsSpare}, Doc: "The spare partition stands behind the root partition; needs `<oem-resize>false</oem-resize>`."},
	{Name: "overlayroot", Value: boolean, Types: onDisk, Default: "false", Doc: "A read-only squashfs root with a partition for changes over it."},
	{Name: "overlayroot_write_partition", Value: boolean, Types: onDisk, Default: "true", effect: effect{Needs: needsOverlay}, Doc: "Have the partition for changes."},
	{Name: "overlayroot_readonly_partsize", Value: number, Types: onDisk, effect: effect{Needs: needsOverlay}, Doc: "The size of the read-only partition in MiB; as large as needed by default."},
	{Name: "ramonly", Value: boolean, Types: onDisk, Default: "false", effect: effect{Needs: needsOverlay}, Doc: "With an overlay root, keep changes in memory only."},
	{Name: "wwid_wait_timeout", Value: number, Types: onDisk, effect: effect{Idle: "none of KIWI's modules for dracut reads it"}, Doc: "Seconds to wait for multipath devices; 3 by default."},
}

var typeBtrfsAttrs = []attrRule{
	{Name: "btrfs_quota_groups", Value: boolean, Types: onDisk, Default: "false", effect: effect{Needs: needsBtrfs}, Doc: "Switch quota groups on; with a root in a snapshot snapper gets the group 1/0."},
	{Name: "btrfs_root_is_snapshot", Value: boolean, Types: onDisk, Default: "false", Until: v8_2, effect: effect{Needs: needsBtrfs}, Doc: "The root is the first snapshot of snapper's layout."},
	{Name: "btrfs_root_is_snapper_snapshot", Value: boolean, Types: onDisk, Default: "false", Since: v8_3, effect: effect{Needs: needsBtrfs}, Doc: "The root is the first snapshot of snapper's layout."},
	{Name: "btrfs_root_is_readonly_snapshot", Value: boolean, Types: onDisk, Default: "false", effect: effect{Needs: needsSnapshot}, Doc: "That snapshot is read-only."},
	{Name: "btrfs_root_is_subvolume", Value: boolean, Types: onDisk, effect: effect{Needs: needsBtrfs}, Doc: "The root is a subvolume, @ by default; true by default."},
	{Name: "btrfs_set_default_volume", Value: boolean, Types: onDisk, effect: effect{Needs: needsBtrfs}, Doc: "Make the root's volume the one that is mounted by default; true by default. Without it the kernel is told by rootflags."},
}

var typeProtectionAttrs = []attrRule{
	{Name: "luks", Value: text, Types: onEncrypted, Doc: "Encrypt the root: a passphrase, `file:///path` of a key file, or nothing for a key file inside the image."},
	{Name: "luks_version", Value: oneOf("luks", "luks1", "luks2"), effect: effect{For: onEncrypted, Needs: needsLUKS}, Doc: "The LUKS version; cryptsetup's default when not given."},
	{Name: "luksOS", Value: oneOf("sle12"), Types: onEncrypted, effect: effect{Needs: needsLUKS}, Doc: "A set of cipher options that the distribution can open."},
	{Name: "luks_pbkdf", Value: oneOf("pbkdf2", "argon2i", "argon2id"), Types: onEncrypted, effect: effect{Needs: needsLUKS}, Doc: "The key derivation; boot loaders may know only pbkdf2."},
	{Name: "luks_randomize", Value: boolean, Default: "true", effect: effect{For: onEncrypted, Needs: needsLUKS}, Doc: "Fill the device with random data first.", KIWI: "does not obey false"},
	{Name: "verity_blocks", Value: blockCount, Types: onDisk, Doc: "Append a dm-verity hash tree for so many blocks of the root."},
	{Name: "embed_verity_metadata", Value: boolean, Types: onDisk, Default: "false", effect: effect{Needs: needsVerity}, Doc: "Write what verity needs into the last block of the partition."},
	{Name: "standalone_integrity", Value: boolean, Types: onDisk, Default: "false", Doc: "Put dm-integrity under the root file system."},
	{Name: "embed_integrity_metadata", Value: boolean, Types: onDisk, Default: "false", effect: effect{Needs: needsIntegrity}, Doc: "Write what dm-integrity needs into the last block of the partition."},
	{Name: "integrity_legacy_hmac", Value: boolean, Types: onDisk, Default: "false", effect: effect{Needs: needsIntegrity}, Doc: "Use the old HMAC that leaves the superblock unprotected."},
	{Name: "integrity_keyfile", Value: text, Types: onDisk, effect: effect{Needs: needsIntegrity}, Doc: "The key file of dm-integrity."},
	{Name: "integrity_metadata_key_description", Value: text, Types: onDisk, effect: effect{Needs: needsIntegrity}, Doc: "The name of the key in the kernel's keyring."},
}

var typeBootAttrs = []attrRule{
	{Name: "firmware", Value: oneOf("bios", "ec2", "efi", "uefi", "ofw", "opal", "custom"), Types: "oem pxe iso", effect: effect{For: onBootloader}, Doc: "What starts the machine; by default bios on x86, efi on ARM and RISC-V, ofw on POWER."},
	{Name: "kernelcmdline", Value: text, Types: "oem iso pxe kis enclave", Doc: "Further kernel parameters."},
	{Name: "initrd_system", Value: oneOf("kiwi", "dracut", "none"), Types: "oem pxe kis", Doc: "What makes the initrd; dracut by default."},
	{Name: "boot", Value: text, Types: "oem pxe", effect: effect{Idle: noKiwiInitrd}, Doc: "The description of an initrd of kiwi's own kind."},
	{Name: "bootkernel", Value: text, effect: effect{Idle: noKiwiInitrd}, Doc: "The kernel profile of that initrd."},
	{Name: "bootprofile", Value: text, Types: "oem iso pxe cpio", effect: effect{Idle: noKiwiInitrd}, Doc: "The profile of that initrd."},
	{Name: "editbootconfig", Value: text, Types: onBootloader, Doc: "A script that runs before the boot loader is installed."},
	{Name: "editbootinstall", Value: text, Types: onDisk, Doc: "A script that runs after the boot loader has been installed."},
	{Name: "vga", Value: text, Types: "oem pxe kis iso", Until: v8_4, effect: effect{For: onBootloader, Needs: needsVESA}, Doc: "The mode of GRUB's graphical terminal, as the number of a VESA mode: 0x317 is 1024x768."},
	{Name: "xen_server", Value: boolean, Types: "oem iso kis", Default: "false", Doc: "The image is a Xen dom0."},
}

var typeFormatAttrs = []attrRule{
	{Name: "format", Value: oneOf("gce", "ova", "qcow2", "vagrant", "vmdk", "vdi", "vhd", "vhdx", "vhd-fixed"), Types: onDisk, Doc: "The format of the disk beside raw."},
	{Name: "formatoptions", Value: text, Types: onDisk, Doc: "Options of the format: name=value with commas between."},
	{Name: "gcelicense", Value: text, Types: onDisk, effect: effect{Needs: needsFormat("gce")}, Doc: "The licence tag of a gce image."},
	{Name: "vhdfixedtag", Value: vhdTag, Types: onDisk, effect: effect{Needs: needsFormat("vhd-fixed")}, Doc: "The identification inside a vhd-fixed disk."},
	{Name: "enclave_format", Value: oneOf("aws-nitro"), Types: "enclave", Since: v8_0, Doc: "The kind of enclave."},
}

var typeMediaAttrs = []attrRule{
	{Name: "installiso", Value: boolean, Types: onDisk, Default: "false", Doc: "Also make an ISO that installs the disk."},
	{Name: "installstick", Value: boolean, Types: onDisk, Default: "false", Doc: "The same as installiso.", KIWI: "makes the same ISO"},
	{Name: "installpxe", Value: boolean, Types: onDisk, Default: "false", Doc: "Also make an archive for installation over the network."},
	{Name: "installboot", Value: oneOf("failsafe-install", "harddisk", "install"), Types: onDisk, effect: effect{Needs: needsInstall}, Doc: "The default entry of the installation menu."},
	{Name: "installprovidefailsafe", Value: boolean, Types: onBootloader, Default: "true", effect: effect{Needs: needsISO}, Doc: "Have a failsafe entry in the menu."},
	{Name: "install_continue_on_timeout", Value: boolean, Types: onDisk, Default: "true", effect: effect{Needs: needsInstall}, Doc: "The installation menu goes on by itself."},
	{Name: "flags", Value: oneOf("overlay", "dmsquash"), Types: "iso", Doc: "The dracut module of a live ISO; overlay by default."},
	{Name: "hybridpersistent", Value: boolean, Types: "iso pxe", Default: "false", effect: effect{For: "iso"}, Doc: "Keep changes of a live system in a partition of the stick."},
	{Name: "hybridpersistent_filesystem", Value: oneOf("ext4", "xfs"), Types: "iso pxe", effect: effect{For: "iso", Needs: needsPersistent}, Doc: "The file system of that partition; ext4 by default."},
	{Name: "mediacheck", Value: boolean, Types: "iso", Default: "false", Doc: "Have a menu entry that checks the medium (x86)."},
	{Name: "publisher", Value: isoText, OldValue: text, Types: "iso", Doc: "The publisher in the ISO's header.", KIWI: "has SUSE LINUX GmbH by default"},
	{Name: "application_id", Value: isoText, Types: onBootloader, Since: v8_0, effect: effect{Needs: needsISO}, Doc: "The application identifier in the ISO's header."},
	{Name: "volid", Value: shortName, Types: onBootloader, effect: effect{Needs: needsISO}, Doc: "The volume identifier of the ISO."},
}

var typeContainerAttrs = []attrRule{
	{Name: "delta_root", Value: boolean, Types: onContainer, Default: "false", effect: effect{Needs: needsDerived}, Doc: "With derived_from, the result holds only what differs from it."},
	{Name: "ensure_empty_tmpdirs", Value: boolean, Types: onContainer, Default: "true", Doc: "Leave out the contents of /run and /tmp."},
	{Name: "metadata_path", Value: text, Types: "appx", Doc: "The directory with AppxManifest.xml and what belongs to it; needed for appx."},
	{Name: "provide_system_files", Value: boolean, Types: onContainer, Default: "false", Since: v8_0, effect: effect{Idle: noSystemFiles}, Doc: "Add a list of the files of all packages."},
	{Name: "require_system_files", Value: boolean, Types: onContainer, Default: "false", Since: v8_0, effect: effect{Idle: noSystemFiles}, Doc: "Take part in such a list."},
}
