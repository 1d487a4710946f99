package description

// Type is the image type that was chosen, with defaults filled in. Sizes are
// in MiB unless a field says otherwise; 0 means that none was given.
type Type struct {
	Origin
	Image   string `kiwi:"image"` // oem, iso, docker, oci, tbz, kis, ext4, ...
	Primary bool   `kiwi:"primary"`

	// Root file system and the disk around it.
	Filesystem                      string   `kiwi:"filesystem"` // for oem, kis, pxe; Image itself for file-system types
	FSCreateOptions                 []string `kiwi:"fscreateoptions,words"`
	FSMountOptions                  string   `kiwi:"fsmountoptions"` // comma separated, for mount -o and fstab
	RootFSLabel                     string   `kiwi:"rootfs_label"`   // "" for the builder's default
	SquashfsCompression             string   `kiwi:"squashfscompression"`
	ErofsCompression                string   `kiwi:"erofscompression"`
	TargetBlocksize                 int      `kiwi:"target_blocksize"` // bytes; 0: 512
	TargetRemovable                 bool     `kiwi:"target_removable"`
	DiskStartSector                 int      `kiwi:"disk_start_sector"` // default 2048
	DevicePersistency               string   `kiwi:"devicepersistency"` // by-uuid, by-label, by-partuuid
	BootPartition                   Tristate `kiwi:"bootpartition"`
	BootPartitionSize               int      `kiwi:"bootpartsize"`
	BootFilesystem                  string   `kiwi:"bootfilesystem"`
	EFIPartSize                     int      `kiwi:"efipartsize"`
	EFIFatImageSize                 int      `kiwi:"efifatimagesize"`
	EFIPartTable                    string   `kiwi:"efiparttable"` // gpt or msdos; "" by firmware
	DosParttableExtendedLayout      bool     `kiwi:"dosparttable_extended_layout"`
	EFICSM                          Tristate `kiwi:"eficsm"` // default true
	ForceMBR                        bool     `kiwi:"force_mbr"`
	GPTHybridMBR                    bool     `kiwi:"gpt_hybrid_mbr"`
	RootClone                       int      `kiwi:"root_clone"`
	BootClone                       int      `kiwi:"boot_clone"`
	SparePart                       int      `kiwi:"spare_part,mib"`
	SparePartFS                     string   `kiwi:"spare_part_fs"`
	SparePartMountpoint             string   `kiwi:"spare_part_mountpoint"`
	SparePartFSAttributes           []string `kiwi:"spare_part_fs_attributes,commas"`
	SparePartIsLast                 bool     `kiwi:"spare_part_is_last"`
	MDRaid                          string   `kiwi:"mdraid"`            // mirroring, striping
	WWIDWaitTimeout                 int      `kiwi:"wwid_wait_timeout"` // seconds
	Size                            *Size
	Partitions                      []Partition
	SystemDisk                      *SystemDisk
	VolumeManagement                string // lvm, btrfs or ""
	VolumeGroup                     string
	Volumes                         []Volume // root first resolved as KIWI does; see Volume
	BtrfsQuotaGroups                bool     `kiwi:"btrfs_quota_groups"`
	BtrfsRootIsSnapshot             bool
	BtrfsRootIsReadonlySnapshot     bool     `kiwi:"btrfs_root_is_readonly_snapshot"`
	BtrfsRootIsSubvolume            Tristate `kiwi:"btrfs_root_is_subvolume"`  // default true
	BtrfsSetDefaultVolume           Tristate `kiwi:"btrfs_set_default_volume"` // default true
	OverlayRoot                     bool     `kiwi:"overlayroot"`
	OverlayRootWritePartition       bool     `kiwi:"overlayroot_write_partition"` // default true
	OverlayRootReadonlyPartsize     int      `kiwi:"overlayroot_readonly_partsize"`
	RAMOnly                         bool     `kiwi:"ramonly"`
	VerityBlocks                    string   `kiwi:"verity_blocks"` // number or all
	EmbedVerityMetadata             bool     `kiwi:"embed_verity_metadata"`
	StandaloneIntegrity             bool     `kiwi:"standalone_integrity"`
	EmbedIntegrityMetadata          bool     `kiwi:"embed_integrity_metadata"`
	IntegrityLegacyHMAC             bool     `kiwi:"integrity_legacy_hmac"`
	IntegrityKeyfile                string   `kiwi:"integrity_keyfile"`
	IntegrityMetadataKeyDescription string   `kiwi:"integrity_metadata_key_description"`

	// Encryption. LUKS is nil when the root is not encrypted; an empty
	// passphrase asks for a key file that opens it without a question.
	LUKS              *string     `kiwi:"luks"` // passphrase or file:///path; never to be logged
	LUKSVersion       string      `kiwi:"luks_version"`
	LUKSOS            string      `kiwi:"luksOS"`
	LUKSPBKDF         string      `kiwi:"luks_pbkdf"`
	LUKSRandomize     bool        `kiwi:"luks_randomize"` // default true
	LUKSFormatOptions []NameValue // for cryptsetup luksFormat, with --type and --pbkdf where given

	// Boot.
	Firmware        string `kiwi:"firmware"` // bios, efi, uefi, ec2, ofw, opal, custom; default by architecture
	Bootloader      Bootloader
	KernelCmdline   string `kiwi:"kernelcmdline"`
	InitrdSystem    string `kiwi:"initrd_system"` // dracut, kiwi, none
	Initrd          InitrdModules
	Boot            string `kiwi:"boot"` // custom initrd description of kiwi's own kind
	BootKernel      string `kiwi:"bootkernel"`
	BootProfile     string `kiwi:"bootprofile"`
	VGA             string `kiwi:"vga"`
	XenServer       bool   `kiwi:"xen_server"`
	SELinuxPolicy   string `kiwi:"selinux_policy"`
	EditBootConfig  string `kiwi:"editbootconfig"`
	EditBootInstall string `kiwi:"editbootinstall"`

	// Results.
	Format        string `kiwi:"format"` // qcow2, vmdk, ...; "" for raw
	FormatOptions []NameValue
	VHDFixedTag   string `kiwi:"vhdfixedtag"`
	GCELicense    string `kiwi:"gcelicense"`
	BundleFormat  string `kiwi:"bundle_format"`
	EnclaveFormat string `kiwi:"enclave_format"`
	Compressed    bool   `kiwi:"compressed"`
	Machine       *Machine
	Vagrant       []VagrantConfig

	// Media.
	InstallISO               bool   `kiwi:"installiso"`
	InstallPXE               bool   `kiwi:"installpxe"`
	InstallStick             bool   `kiwi:"installstick"`
	InstallBoot              string `kiwi:"installboot"`
	InstallProvideFailsafe   bool   `kiwi:"installprovidefailsafe"`      // default true
	InstallContinueOnTimeout bool   `kiwi:"install_continue_on_timeout"` // default true
	InstallMedia             InitrdModules
	Flags                    string `kiwi:"flags"` // overlay, dmsquash
	HybridPersistent         bool   `kiwi:"hybridpersistent"`
	HybridPersistentFS       string `kiwi:"hybridpersistent_filesystem"`
	MediaCheck               bool   `kiwi:"mediacheck"`
	Publisher                string `kiwi:"publisher"`
	VolID                    string `kiwi:"volid"`
	ApplicationID            string `kiwi:"application_id"`
	OEM                      OEMConfig

	// Containers.
	DerivedFrom        []string `kiwi:"derived_from,commas"`
	DeltaRoot          bool     `kiwi:"delta_root"`
	EnsureEmptyTmpdirs bool     `kiwi:"ensure_empty_tmpdirs"` // default true
	ProvideSystemFiles bool     `kiwi:"provide_system_files"`
	RequireSystemFiles bool     `kiwi:"require_system_files"`
	MetadataPath       string   `kiwi:"metadata_path"`
	Container          *ContainerConfig
	InnerContainers    []InnerContainers
}

// NameValue is an option; HasValue tells `name` from `name=`.
type NameValue struct {
	Origin
	Name     string `kiwi:"name"`
	Value    string `kiwi:"value"`
	HasValue bool
}

// Args returns options as command line arguments: the name and, where there
// is one, the value after it.
func Args(options []NameValue) []string {
	var args []string
	for _, o := range options {
		args = append(args, o.Name)
		if o.HasValue {
			args = append(args, o.Value)
		}
	}
	return args
}

// Size is the size of a disk.
type Size struct {
	Origin
	MB            int64 // MiB
	Additive      bool  // on top of what the content needs
	Unpartitioned int64 // bytes kept free at the end of the disk
}

// Bootloader says which boot loader is installed and how.
type Bootloader struct {
	Origin
	Name string `kiwi:"name"` // grub2 by default
	// Console holds GRUB's terminals as words: the first is for output, the
	// others are for input; a single one is for both.
	Console         string
	Timeout         int // seconds
	HasTimeout      bool
	TimeoutStyle    string   `kiwi:"timeout_style"`
	SerialLine      string   `kiwi:"serial_line"`
	TargetType      string   `kiwi:"targettype"`
	GrubTemplate    string   `kiwi:"grub_template"`
	UseDiskPassword bool     `kiwi:"use_disk_password"`
	BLS             Tristate `kiwi:"bls"`
	ShimOptions     []NameValue
	InstallOptions  []NameValue
	ConfigOptions   []NameValue
	SecureLinux     []SecureLinux
}

// SecureLinux is what seals a boot image for secure execution on s390. Its
// files are relative to the description.
type SecureLinux struct {
	Origin
	CACert          string `kiwi:"hkd_ca_cert"`
	SignCert        string `kiwi:"hkd_sign_cert"`
	HostKeys        []string
	RevocationLists []string
}

// OEMConfig is how an expandable disk behaves at its first boot and how it is
// installed from media.
type OEMConfig struct {
	Origin
	Resize              Tristate `kiwi:"oem-resize,child"` // default true
	ResizeOnce          Tristate `kiwi:"oem-resize-once,child"`
	SystemSize          int      `kiwi:"oem-systemsize,child"` // MiB
	Swap                bool     `kiwi:"oem-swap,child"`
	SwapSize            int      `kiwi:"oem-swapsize,child"` // MiB; 128 by default when Swap is set
	SwapName            string   `kiwi:"oem-swapname,child"` // volume name, LVSwap by default
	BootTitle           string   `kiwi:"oem-boot-title,child"`
	BootWait            Tristate `kiwi:"oem-bootwait,child"`
	DeviceFilter        string   `kiwi:"oem-device-filter,child"`
	NICFilter           string   `kiwi:"oem-nic-filter,child"`
	InplaceRecovery     Tristate `kiwi:"oem-inplace-recovery,child"`
	KiwiInitrd          Tristate `kiwi:"oem-kiwi-initrd,child"`
	MultipathScan       Tristate `kiwi:"oem-multipath-scan,child"`
	VMCPParmfile        string   `kiwi:"oem-vmcp-parmfile,child"`
	PartitionInstall    Tristate `kiwi:"oem-partition-install,child"`
	Reboot              Tristate `kiwi:"oem-reboot,child"`
	RebootInteractive   Tristate `kiwi:"oem-reboot-interactive,child"`
	Recovery            Tristate `kiwi:"oem-recovery,child"`
	RecoveryID          int      `kiwi:"oem-recoveryID,child"`
	RecoveryPartSize    int      `kiwi:"oem-recovery-part-size,child"` // MiB
	Shutdown            Tristate `kiwi:"oem-shutdown,child"`
	ShutdownInteractive Tristate `kiwi:"oem-shutdown-interactive,child"`
	SilentBoot          Tristate `kiwi:"oem-silent-boot,child"`
	SilentInstall       Tristate `kiwi:"oem-silent-install,child"`
	SilentVerify        Tristate `kiwi:"oem-silent-verify,child"`
	SkipVerify          Tristate `kiwi:"oem-skip-verify,child"`
	Unattended          Tristate `kiwi:"oem-unattended,child"`
	UnattendedID        string   `kiwi:"oem-unattended-id,child"`
}

// Partition is an extra partition of the disk.
type Partition struct {
	Origin
	Name       string `kiwi:"name"`
	Label      string `kiwi:"partition_name"` // partition_name; p.lx<Name> by default
	Type       string `kiwi:"partition_type"` // t.linux, t.raid
	Size       int    `kiwi:"size,mib"`       // MiB
	Filesystem string `kiwi:"filesystem"`
	Mountpoint string `kiwi:"mountpoint"`
	Clone      int    `kiwi:"clone"`
	UUID       string `kiwi:"part_uuid"` // in the partition table; "" for one of the builder's
}

// SystemDisk is the systemdisk element as written; Type.Volumes holds what it
// means.
type SystemDisk struct {
	Origin
	Name      string `kiwi:"name"`
	PreferLVM bool   `kiwi:"preferlvm"`
}

// Volume is a logical volume or a btrfs subvolume.
type Volume struct {
	Origin
	Name     string // name of the volume; "" for an unnamed root
	Parent   string `kiwi:"parent"`
	SizeType string // "size", "freespace" or "" for the volume that takes the rest
	Size     int    // MiB
	// Mountpoint and RealPath are the directory that the volume holds, with or
	// without a leading slash, as written. The root has no Mountpoint and the
	// RealPath "/"; swap has no Mountpoint and the RealPath "swap".
	Mountpoint string
	RealPath   string
	Label      string `kiwi:"label"`
	FullSize   bool
	Root       bool
	NoCOW      bool   // copy on write switched off
	FSCheck    bool   `kiwi:"filesystem_check"`
	Quota      string `kiwi:"quota"`
}

// Machine is the virtual machine that a disk format describes.
type Machine struct {
	Origin
	MinMemory     int    `kiwi:"min_memory"` // MiB
	MaxMemory     int    `kiwi:"max_memory"` // MiB
	Memory        int    `kiwi:"memory"`     // MiB
	MinCPU        int    `kiwi:"min_cpu"`
	MaxCPU        int    `kiwi:"max_cpu"`
	CPUs          int    `kiwi:"ncpus"`
	OVFType       string `kiwi:"ovftype"`
	HWVersion     string `kiwi:"HWversion"`
	Arch          string `kiwi:"arch"`
	XenLoader     string `kiwi:"xen_loader"`
	GuestOS       string `kiwi:"guestOS"`
	ConfigEntries []string
	Disk          *VMDisk
	DVD           *VMDVD
	NICs          []VMNIC
}

// VMDisk is the disk of a Machine.
type VMDisk struct {
	Origin
	Type       string `kiwi:"disktype"`
	Controller string `kiwi:"controller"`
	ID         string `kiwi:"id"`
	Device     string `kiwi:"device"`
	Mode       string `kiwi:"diskmode"`
}

// VMDVD is the DVD drive of a Machine.
type VMDVD struct {
	Origin
	Controller string `kiwi:"controller"`
	ID         string `kiwi:"id"`
}

// VMNIC is a network card of a Machine.
type VMNIC struct {
	Origin
	Driver    string `kiwi:"driver"`
	Interface string `kiwi:"interface"`
	Mode      string `kiwi:"mode"`
	MAC       string `kiwi:"mac"`
}

// VagrantConfig is a vagrant box to make.
type VagrantConfig struct {
	Origin
	Provider              string `kiwi:"provider"`    // libvirt, virtualbox
	VirtualSize           int    `kiwi:"virtualsize"` // GB
	BoxName               string `kiwi:"boxname"`
	EmbeddedVagrantfile   string `kiwi:"embedded_vagrantfile"`
	GuestAdditionsPresent bool   `kiwi:"virtualbox_guest_additions_present"`
}

// InitrdModules changes what dracut puts into an initrd: that of the image, or
// that of an installation medium.
type InitrdModules struct {
	Origin
	Add, Omit, Set []string // dracut modules
	// AddDrivers, OmitDrivers and SetDrivers are the same for kernel modules.
	AddDrivers, OmitDrivers, SetDrivers []string
	UEFI                                bool // make a unified kernel image
}

// ContainerConfig is the configuration of a container image.
type ContainerConfig struct {
	Origin
	Name            string   `kiwi:"name"`
	Tag             string   `kiwi:"tag"`
	AdditionalNames []string `kiwi:"additionalnames,commas"` // "name:tag", ":tag" or "name"
	Maintainer      string   `kiwi:"maintainer"`
	User            string   `kiwi:"user"`
	WorkingDir      string   `kiwi:"workingdir"`
	// Entrypoint and Command are nil when not set and empty when cleared.
	Entrypoint []string
	Command    []string
	StopSignal string `kiwi:"stopsignal,child"`
	Expose     []string
	Volumes    []string
	Env        []NameValue
	Labels     []NameValue
	History    History
}

// History is the history entry of a container image.
type History struct {
	Origin
	Author         string `kiwi:"author"`
	CreatedBy      string `kiwi:"created_by"`
	ApplicationID  string `kiwi:"application_id"`
	Launcher       string `kiwi:"launcher"`
	PackageVersion string `kiwi:"package_version"`
	Comment        string
}

// InnerContainers are containers to be pulled into the storage of a container
// engine inside the image (schema 8).
type InnerContainers struct {
	Origin
	Backend    string `kiwi:"backend"` // podman, docker, container-snap
	Containers []InnerContainer
}

// InnerContainer is one of them.
type InnerContainer struct {
	Origin
	Name      string `kiwi:"name"`
	Tag       string `kiwi:"tag"`
	Path      string `kiwi:"path"`
	Source    string
	FetchOnly bool `kiwi:"fetch_only"`
}
