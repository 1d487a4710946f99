package description

// Type is the image type that was chosen, with defaults filled in. Sizes are
// in MiB unless a field says otherwise; 0 means that none was given.
type Type struct {
	Origin
	Image   string // oem, iso, docker, oci, tbz, kis, ext4, …
	Primary bool

	// Root file system and the disk around it.
	Filesystem                      string // for oem, kis, pxe; Image itself for file-system types
	FSCreateOptions                 []string
	FSMountOptions                  string // comma separated, for mount -o and fstab
	RootFSLabel                     string // "" for the builder's default
	SquashfsCompression             string
	TargetBlocksize                 int // bytes; 0: 512
	TargetRemovable                 bool
	DiskStartSector                 int    // default 2048
	DevicePersistency               string // by-uuid, by-label, by-partuuid
	BootPartition                   Tristate
	BootPartitionSize               int
	BootFilesystem                  string
	EFIPartSize                     int
	EFIFatImageSize                 int
	EFIPartTable                    string // gpt or msdos; "" by firmware
	DosParttableExtendedLayout      bool
	ForceMBR                        bool
	GPTHybridMBR                    bool
	RootClone                       int
	BootClone                       int
	SparePart                       int
	SparePartFS                     string
	SparePartMountpoint             string
	SparePartFSAttributes           []string
	SparePartIsLast                 bool
	MDRaid                          string // mirroring, striping
	WWIDWaitTimeout                 int    // seconds
	Size                            *Size
	Partitions                      []Partition
	SystemDisk                      *SystemDisk
	VolumeManagement                string // lvm, btrfs or ""
	VolumeGroup                     string
	Volumes                         []Volume // root first resolved as KIWI does; see Volume
	BtrfsQuotaGroups                bool
	BtrfsRootIsSnapshot             bool
	BtrfsRootIsReadonlySnapshot     bool
	BtrfsRootIsSubvolume            Tristate // default true
	BtrfsSetDefaultVolume           Tristate // default true
	OverlayRoot                     bool
	OverlayRootWritePartition       bool // default true
	OverlayRootReadonlyPartsize     int
	RAMOnly                         bool
	VerityBlocks                    string // number or all
	EmbedVerityMetadata             bool
	StandaloneIntegrity             bool
	EmbedIntegrityMetadata          bool
	IntegrityLegacyHMAC             bool
	IntegrityKeyfile                string
	IntegrityMetadataKeyDescription string

	// Encryption. LUKS is nil when the root is not encrypted; an empty
	// passphrase asks for a key file that opens it without a question.
	LUKS              *string // passphrase or file:///path; never to be logged
	LUKSVersion       string
	LUKSOS            string
	LUKSPBKDF         string
	LUKSRandomize     bool // default true
	LUKSFormatOptions []NameValue

	// Boot.
	Firmware        string // bios, efi, uefi, ec2, ofw, opal, custom; default by architecture
	Bootloader      Bootloader
	KernelCmdline   string
	InitrdSystem    string // dracut, kiwi, none
	Boot            string // custom initrd description of kiwi's own kind
	BootKernel      string
	BootProfile     string
	VGA             string
	XenServer       bool
	SELinuxPolicy   string
	EditBootConfig  string
	EditBootInstall string

	// Results.
	Format        string // qcow2, vmdk, …; "" for raw
	FormatOptions []NameValue
	VHDFixedTag   string
	GCELicense    string
	BundleFormat  string
	Compressed    bool
	Machine       *Machine
	Vagrant       []VagrantConfig

	// Media.
	InstallISO               bool
	InstallPXE               bool
	InstallStick             bool
	InstallBoot              string
	InstallProvideFailsafe   bool // default true
	InstallContinueOnTimeout bool // default true
	InstallMedia             InstallMedia
	Flags                    string // overlay, dmsquash
	HybridPersistent         bool
	HybridPersistentFS       string
	MediaCheck               bool
	Publisher                string
	VolID                    string
	ApplicationID            string
	OEM                      OEMConfig

	// Containers.
	DerivedFrom        []string
	DeltaRoot          bool
	EnsureEmptyTmpdirs bool // default true
	MetadataPath       string
	Container          *ContainerConfig
	InnerContainers    []InnerContainers
}

// NameValue is an option; HasValue tells `name` from `name=`.
type NameValue struct {
	Origin
	Name     string
	Value    string
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
	Name            string // grub2 by default
	Console         string // words: console, gfxterm, serial, none
	ConsoleInput    string // schema 8 tells input from output
	Timeout         int    // seconds
	HasTimeout      bool
	TimeoutStyle    string
	SerialLine      string
	TargetType      string
	GrubTemplate    string
	UseDiskPassword bool
	BLS             Tristate
	ShimOptions     []NameValue
	InstallOptions  []NameValue
	ConfigOptions   []NameValue
	SecureEnv       []NameValue
}

// OEMConfig is how an expandable disk behaves at its first boot and how it is
// installed from media.
type OEMConfig struct {
	Origin
	Resize              Tristate // default true
	ResizeOnce          Tristate
	SystemSize          int // MiB
	Swap                bool
	SwapSize            int    // MiB; 128 by default when Swap is set
	SwapName            string // volume name, LVSwap by default
	BootTitle           string
	BootWait            Tristate
	DeviceFilter        string
	NICFilter           string
	InplaceRecovery     Tristate
	KiwiInitrd          Tristate
	MultipathScan       Tristate
	VMCPParmfile        string
	PartitionInstall    Tristate
	Reboot              Tristate
	RebootInteractive   Tristate
	Recovery            Tristate
	RecoveryID          int
	RecoveryPartSize    int // MiB
	Shutdown            Tristate
	ShutdownInteractive Tristate
	SilentBoot          Tristate
	SilentInstall       Tristate
	SilentVerify        Tristate
	SkipVerify          Tristate
	Unattended          Tristate
	UnattendedID        string
}

// Partition is an extra partition of the disk.
type Partition struct {
	Origin
	Name       string
	Label      string // partition_name; p.lx<Name> by default
	Type       string // t.linux, t.raid
	Size       int    // MiB
	Filesystem string
	Mountpoint string
	Clone      int
}

// SystemDisk is the systemdisk element as written; Type.Volumes holds what it
// means.
type SystemDisk struct {
	Origin
	Name      string
	PreferLVM bool
}

// Volume is a logical volume or a btrfs subvolume.
type Volume struct {
	Origin
	Name       string // name of the volume; "" for an unnamed root
	Parent     string
	SizeType   string // "size", "freespace" or "" for the volume that takes the rest
	Size       int    // MiB
	Mountpoint string // relative to /; "" for swap and for a root without one
	RealPath   string // what it holds, relative to /; "/" for root; swap for swap
	Label      string
	FullSize   bool
	Root       bool
	NoCOW      bool // copy on write switched off
	FSCheck    bool
	Quota      string
}

// Machine is the virtual machine that a disk format describes.
type Machine struct {
	Origin
	MinMemory, MaxMemory, Memory int // MiB
	MinCPU, MaxCPU, CPUs         int
	OVFType                      string
	HWVersion                    string
	Arch                         string
	XenLoader                    string
	GuestOS                      string
	ConfigEntries                []string
	Disk                         *VMDisk
	DVD                          *VMDVD
	NICs                         []VMNIC
}

// VMDisk is the disk of a Machine.
type VMDisk struct {
	Origin
	Type, Controller, ID, Device, Mode string
}

// VMDVD is the DVD drive of a Machine.
type VMDVD struct {
	Origin
	Controller, ID string
}

// VMNIC is a network card of a Machine.
type VMNIC struct {
	Origin
	Driver, Interface, Mode, MAC string
}

// VagrantConfig is a vagrant box to make.
type VagrantConfig struct {
	Origin
	Provider              string // libvirt, virtualbox
	VirtualSize           int    // GB
	BoxName               string
	EmbeddedVagrantfile   string
	GuestAdditionsPresent bool
}

// InstallMedia changes the initrd of an installation medium.
type InstallMedia struct {
	Origin
	Add, Omit, Set []string // dracut modules
}

// ContainerConfig is the configuration of a container image.
type ContainerConfig struct {
	Origin
	Name            string
	Tag             string
	AdditionalNames []string // "name:tag", ":tag" or "name"
	Maintainer      string
	User            string
	WorkingDir      string
	// Entrypoint and Command are nil when not set and empty when cleared.
	Entrypoint []string
	Command    []string
	StopSignal string
	Expose     []string
	Volumes    []string
	Env        []NameValue
	Labels     []NameValue
	History    History
}

// History is the history entry of a container image.
type History struct {
	Origin
	Author         string
	CreatedBy      string
	ApplicationID  string
	Launcher       string
	PackageVersion string
	Comment        string
}

// InnerContainers are containers to be pulled into the storage of a container
// engine inside the image (schema 8).
type InnerContainers struct {
	Origin
	Backend    string // podman, docker, container-snap
	Containers []InnerContainer
}

// InnerContainer is one of them.
type InnerContainer struct {
	Origin
	Name, Tag, Path, Source string
	FetchOnly               bool
}
