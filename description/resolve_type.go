package description

import (
	"strings"
)

// imageType reads the chosen <type> and fills in what KIWI takes by default.
func (r *resolver) imageType(img *Image) (*Type, error) {
	t := &Type{}
	if err := decode(r.typ, typeRule, t); err != nil {
		return nil, err
	}
	if v, ok := r.typ.attr("btrfs_root_is_snapshot"); ok {
		t.BtrfsRootIsSnapshot, _ = parseBool(collapse(v))
	}
	if v, ok := r.typ.attr("btrfs_root_is_snapper_snapshot"); ok {
		t.BtrfsRootIsSnapshot, _ = parseBool(collapse(v))
	}
	options, _ := r.typ.attr("formatoptions")
	for _, option := range splitCommas(options) {
		name, value, has := strings.Cut(option, "=")
		t.FormatOptions = append(t.FormatOptions, NameValue{Origin: Origin{Pos: t.At("formatoptions")}, Name: name, Value: value, HasValue: has})
	}
	if isFilesystem(t.Image) && t.Filesystem == "" {
		t.Filesystem = t.Image
	}
	if t.Firmware == "" {
		t.Firmware = defaultFirmware(r.arch)
	}
	if t.InitrdSystem == "" {
		t.InitrdSystem = defaultInitrd(t)
	}
	for _, read := range []func(*Type) error{r.bootloader, r.oem, r.size, r.disk, r.volumes, r.machine, r.media} {
		if err := read(t); err != nil {
			return nil, err
		}
	}
	return t, r.container(t, img)
}

func isFilesystem(image string) bool {
	switch image {
	case "btrfs", "ext2", "ext3", "ext4", "squashfs", "erofs", "xfs", "cramfs", "reiserfs":
		return true
	}
	return false
}

// defaultFirmware returns what starts machines of an architecture.
func defaultFirmware(arch string) string {
	switch {
	case arch == "x86_64", arch == "ix86", arch == "i586", arch == "i686":
		return "bios"
	case strings.HasPrefix(arch, "ppc"):
		return "ofw"
	case strings.HasPrefix(arch, "arm"), arch == "aarch64", arch == "riscv64":
		return "efi"
	}
	return ""
}

// defaultInitrd returns what makes the initrd of a type that does not say.
func defaultInitrd(t *Type) string {
	switch t.Image {
	case "oem", "iso", "kis":
		return "dracut"
	case "pxe":
		return "kiwi"
	}
	return "none"
}

func (r *resolver) bootloader(t *Type) error {
	e := r.typ.child("bootloader")
	if e == nil {
		e = &element{name: "bootloader", pos: r.typ.pos}
	}
	b := &t.Bootloader
	if err := decode(e, bootloaderRule, b); err != nil {
		return err
	}
	b.Timeout = 10
	if timeout, ok := e.attr("timeout"); ok {
		n, err := parseMiB(collapse(timeout))
		if err != nil {
			return err
		}
		b.Timeout, b.HasTimeout = n, true
	}
	var words []string
	for _, name := range []string{"console", "output_console", "input_console"} {
		if v, ok := e.attr(name); ok {
			words = append(words, strings.Fields(v)...)
		}
	}
	b.Console = strings.Join(words, " ")
	secure, err := secureLinux(e.elements("securelinux"))
	b.SecureLinux = secure
	settings := e.child("bootloadersettings")
	if err != nil || settings == nil {
		return err
	}
	b.ShimOptions = pairs(settings.elements("shimoption"))
	b.InstallOptions = pairs(settings.elements("installoption"))
	b.ConfigOptions = pairs(settings.elements("configoption"))
	return nil
}

// secureLinux reads what seals boot images.
func secureLinux(elements []*element) ([]SecureLinux, error) {
	list, err := decodeAll[SecureLinux](elements, ruleOf(bootloaderRule, "securelinux"))
	for i := range list {
		list[i].HostKeys = namesOf(elements[i].elements("hkd_cert"))
		list[i].RevocationLists = namesOf(elements[i].elements("hkd_revocation_list"))
	}
	return list, err
}

// namesOf returns the attribute name of each element.
func namesOf(elements []*element) []string {
	var names []string
	for _, e := range elements {
		name, _ := e.attr("name")
		names = append(names, name)
	}
	return names
}

// pairs reads elements with a name and a value.
func pairs(elements []*element) []NameValue {
	var list []NameValue
	for _, e := range elements {
		name, _ := e.attr("name")
		value, has := e.attr("value")
		list = append(list, NameValue{Origin: origin(e), Name: name, Value: value, HasValue: has})
	}
	return list
}

func (r *resolver) oem(t *Type) error {
	e := r.typ.child("oemconfig")
	if e == nil {
		e = &element{name: "oemconfig", pos: r.typ.pos}
	}
	if err := decode(e, oemConfigRule, &t.OEM); err != nil {
		return err
	}
	if t.OEM.Swap && t.OEM.SwapSize == 0 {
		t.OEM.SwapSize = 128
	}
	if t.OEM.SwapName == "" {
		t.OEM.SwapName = "LVSwap"
	}
	return nil
}

func (r *resolver) size(t *Type) error {
	e := r.typ.child("size")
	if e == nil {
		return nil
	}
	n, err := parseMiB(collapse(e.text()))
	if err != nil {
		return err
	}
	unit := int64(1)
	if u, _ := e.attr("unit"); collapse(u) == "G" {
		unit = 1024
	}
	s := &Size{Origin: origin(e), MB: int64(n) * unit}
	additive, _ := e.attr("additive")
	s.Additive, _ = parseBool(collapse(additive))
	if u, ok := e.attr("unpartitioned"); ok {
		n, err := parseMiB(collapse(u))
		if err != nil {
			return err
		}
		s.Unpartitioned = int64(n) * unit << 20
	}
	t.Size = s
	return nil
}

// disk reads partitions, the system disk and the encryption's options.
func (r *resolver) disk(t *Type) error {
	if e := r.typ.child("partitions"); e != nil {
		list, err := decodeAll[Partition](e.elements("partition"), ruleOf(partitionsRule, "partition"))
		if err != nil {
			return err
		}
		for i := range list {
			if list[i].Label == "" {
				list[i].Label = "p.lx" + list[i].Name
			}
		}
		t.Partitions = list
	}
	if e := r.typ.child("systemdisk"); e != nil {
		t.SystemDisk = &SystemDisk{}
		if err := decode(e, systemDiskRule, t.SystemDisk); err != nil {
			return err
		}
	}
	t.LUKSFormatOptions = luksOptions(t)
	if e := r.typ.child("luksformat"); e != nil {
		t.LUKSFormatOptions = append(t.LUKSFormatOptions, pairs(e.elements("option"))...)
	}
	return nil
}

// luksOptions returns the arguments that attributes of the type stand for.
func luksOptions(t *Type) []NameValue {
	var options []NameValue
	if t.LUKSVersion != "" {
		options = append(options, NameValue{Origin{Pos: t.At("luks_version")}, "--type", t.LUKSVersion, true})
	}
	if t.LUKSPBKDF != "" {
		options = append(options, NameValue{Origin{Pos: t.At("luks_pbkdf")}, "--pbkdf", t.LUKSPBKDF, true})
	}
	return options
}

func (r *resolver) machine(t *Type) error {
	boxes, err := decodeAll[VagrantConfig](r.typ.elements("vagrantconfig"), vagrantConfigRule)
	if err != nil {
		return err
	}
	t.Vagrant = boxes
	e := r.typ.child("machine")
	if e == nil {
		return nil
	}
	m := &Machine{}
	if err := decode(e, machineRule, m); err != nil {
		return err
	}
	for _, entry := range e.elements("vmconfig-entry") {
		m.ConfigEntries = append(m.ConfigEntries, strings.TrimSpace(entry.text()))
	}
	if d := e.child("vmdisk"); d != nil {
		m.Disk = &VMDisk{}
		if err := decode(d, ruleOf(machineRule, "vmdisk"), m.Disk); err != nil {
			return err
		}
	}
	if d := e.child("vmdvd"); d != nil {
		m.DVD = &VMDVD{}
		if err := decode(d, ruleOf(machineRule, "vmdvd"), m.DVD); err != nil {
			return err
		}
	}
	m.NICs, err = decodeAll[VMNIC](e.elements("vmnic"), ruleOf(machineRule, "vmnic"))
	t.Machine = m
	return err
}

// media reads the modules of the initrds.
func (r *resolver) media(t *Type) error {
	if e := r.typ.child("installmedia"); e != nil {
		t.InstallMedia = initrdModules(e.elements("initrd"))
		t.InstallMedia.Origin = origin(e)
	}
	if own := r.typ.elements("initrd"); len(own) > 0 {
		t.Initrd = initrdModules(own)
	}
	return nil
}

// initrdModules reads elements that change the modules of one initrd.
func initrdModules(elements []*element) InitrdModules {
	var m InitrdModules
	for i, initrd := range elements {
		if i == 0 {
			m.Origin = origin(initrd)
		}
		action, _ := initrd.attr("action")
		lists := map[string][2]*[]string{
			"add": {&m.Add, &m.AddDrivers}, "omit": {&m.Omit, &m.OmitDrivers}, "set": {&m.Set, &m.SetDrivers},
		}[collapse(action)]
		for _, dracut := range initrd.elements("dracut") {
			for i, name := range []string{"module", "driver"} {
				if v, ok := dracut.attr(name); ok && lists[i] != nil {
					*lists[i] = append(*lists[i], v)
				}
			}
			if v, ok := dracut.attr("uefi"); ok {
				on, _ := parseBool(collapse(v))
				m.UEFI = m.UEFI || on
			}
		}
	}
	return m
}

// container reads the configuration of a container. It is there for every
// type, with the description's author as its maintainer.
func (r *resolver) container(t *Type, img *Image) error {
	c := &ContainerConfig{Origin: Origin{Pos: r.typ.pos}}
	t.Container = c
	e := r.typ.child("containerconfig")
	if e != nil {
		if err := decode(e, containerConfigRule, c); err != nil {
			return err
		}
		r.containerParts(e, c)
		if h := e.child("history"); h != nil {
			if err := decode(h, ruleOf(containerConfigRule, "history"), &c.History); err != nil {
				return err
			}
			c.History.Comment = strings.TrimSpace(h.text())
		}
	}
	author := img.Author
	if img.Contact != "" {
		author += " <" + img.Contact + ">"
	}
	if c.Maintainer == "" {
		c.Maintainer = author
	}
	if c.History.Author == "" {
		c.History.Author = author
	}
	return nil
}

func (r *resolver) containerParts(e *element, c *ContainerConfig) {
	c.Entrypoint = command(e.child("entrypoint"))
	c.Command = command(e.child("subcommand"))
	if list := e.child("expose"); list != nil {
		for _, port := range list.elements("port") {
			n, _ := port.attr("number")
			c.Expose = append(c.Expose, collapse(n))
		}
	}
	if list := e.child("volumes"); list != nil {
		c.Volumes = namesOf(list.elements("volume"))
	}
	if list := e.child("environment"); list != nil {
		c.Env = pairs(list.elements("env"))
	}
	if list := e.child("labels"); list != nil {
		c.Labels = pairs(list.elements("label"))
	}
}

// command returns a program with its arguments; nil when there is none, and an
// empty list when the description clears it.
func command(e *element) []string {
	if e == nil {
		return nil
	}
	args := []string{}
	if execute, ok := e.attr("execute"); ok {
		args = append(args, execute)
	} else if clear, _ := e.attr("clear"); !isTrue(clear) {
		return nil
	}
	for _, a := range e.elements("argument") {
		name, _ := a.attr("name")
		args = append(args, name)
	}
	return args
}

// isTrue reports whether a boolean is written and true.
func isTrue(s string) bool {
	b, _ := parseBool(collapse(s))
	return b
}

// GfxMode turns the attribute vga, the number of a VESA mode, into what GRUB
// calls that mode; "" is for GRUB to choose, and for numbers without a meaning.
func (t *Type) GfxMode() string {
	switch strings.ToLower(t.VGA) {
	case "0x301", "0x310", "0x311", "0x312":
		return "640x480"
	case "0x303", "0x313", "0x314", "0x315":
		return "800x600"
	case "0x305", "0x316", "0x317", "0x318":
		return "1024x768"
	case "0x307", "0x319", "0x31a", "0x31b":
		return "1280x1024"
	}
	return ""
}

// XenGuest reports whether KIWI takes the image for a guest of Xen.
func (t *Type) XenGuest() bool {
	return t.Firmware == "ec2" || t.Machine != nil && t.Machine.XenLoader != ""
}

// XenMachine reports whether the machine is a guest of Xen: it has a loader or
// a disk of Xen's, or the image is no disk, for which other machines have no
// settings.
func (t *Type) XenMachine() bool {
	m := t.Machine
	switch {
	case m == nil || t.XenServer:
		return false
	case m.XenLoader != "" || t.Image != onDisk:
		return forTypes(onRoot, t.Image)
	}
	return m.Disk != nil && strings.HasPrefix(strings.TrimPrefix(m.Disk.Device, "/dev/"), "xvd")
}
