package description

import "strings"

// rules checks what a table of attributes can't say: what depends on other
// attributes or elements. They are part of the language (KIWI has them as
// Schematron rules) and can't be switched off.
func (c *validator) rules(e *element, rule *elementRule) {
	switch rule {
	case typeRule:
		c.typeRules(e)
	case packagesRule:
		c.packagesRules(e)
	case bootloaderRule:
		c.bootloaderRules(e)
	case partitionsRule:
		c.partitionRules(e)
	case sizeRule:
		c.sizeRules(e)
	case vagrantConfigRule:
		if _, ok := e.attr("virtualbox_guest_additions_present"); ok {
			c.requireValue(e, "virtualbox_guest_additions_present", "provider", "virtualbox")
		}
	case dracutModuleRule:
		_, module := e.attr("module")
		_, driver := e.attr("driver")
		_, uefi := e.attr("uefi")
		if !module && !driver && !uefi {
			c.errors.add(e.pos, `add module="..."`, "<dracut> needs the attribute module")
		}
	case repositoryRule:
		c.repositoryRules(e)
	case containerConfigRule:
		c.containerRules(e)
	case imageRule:
		c.imageRules(e)
	}
}

// requireValue reports attribute attr when other has none of the values.
func (c *validator) requireValue(e *element, attr, other string, values ...string) {
	v, ok := e.attr(other)
	if ok && !contains(values, v) {
		c.errors.add(e.attrPos(attr), "it is for "+other+" "+strings.Join(values, ", "),
			"attribute %s of <%s> has no meaning for %s %q", attr, e.name, other, v)
	}
}

// requireAttr reports attribute attr unless other stands beside it.
func (c *validator) requireAttr(e *element, attr, other string) {
	if _, ok := e.attr(attr); !ok {
		return
	}
	if _, ok := e.attr(other); !ok {
		c.errors.add(e.attrPos(attr), "add "+other+"=\"...\"", "attribute %s of <%s> needs the attribute %s", attr, e.name, other)
	}
}

func (c *validator) typeRules(e *element) {
	needed := map[string]string{"oem": "filesystem", "appx": "metadata_path"}[c.image]
	if needed != "" {
		if _, ok := e.attr(needed); !ok {
			hint := `add filesystem="ext4", or btrfs, ext2, ext3, squashfs, xfs`
			if needed != "filesystem" {
				hint = "name the directory with AppxManifest.xml"
			}
			c.errors.add(e.pos, hint, "the image type %s needs the attribute %s", c.image, needed)
		}
	}
	c.requireAttr(e, "embed_verity_metadata", "verity_blocks")
	c.requireAttr(e, "embed_integrity_metadata", "standalone_integrity")
	if last, _ := e.attr("spare_part_is_last"); last == "true" {
		resize := "true"
		if config := e.child("oemconfig"); config != nil && config.child("oem-resize") != nil {
			resize = collapse(config.child("oem-resize").text())
		}
		if resize != "false" {
			c.errors.add(e.attrPos("spare_part_is_last"), "add <oem-resize>false</oem-resize> to <oemconfig>",
				"a spare partition behind the root stops the root from growing")
		}
	}
	if lf := e.child("luksformat"); lf != nil {
		if _, ok := e.attr("luks"); !ok {
			c.errors.add(lf.pos, "add luks=\"...\" to <type>", "<luksformat> needs the attribute luks")
		}
	}
	if media := e.child("installmedia"); media != nil {
		iso, _ := e.attr("installiso")
		pxe, _ := e.attr("installpxe")
		if iso != "true" && pxe != "true" {
			c.errors.add(media.pos, `add installiso="true" or installpxe="true"`, "<installmedia> is for types that make an installation medium")
		}
	}
	if disk := e.child("systemdisk"); disk != nil {
		fs, _ := e.attr("filesystem")
		for _, v := range disk.elements("volume") {
			if _, ok := v.attr("quota"); ok && fs != "btrfs" {
				c.errors.add(v.attrPos("quota"), "", "a quota is for btrfs volumes only")
			}
		}
	}
	if cc := e.child("containerconfig"); cc != nil && c.image == "appx" {
		for _, name := range []string{"tag", "additionalnames", "maintainer", "user", "workingdir"} {
			if _, ok := cc.attr(name); ok {
				c.errors.add(cc.attrPos(name), "it is for docker, oci", "attribute %s of <containerconfig> has no meaning for the image type appx", name)
			}
		}
	}
}

func (c *validator) packagesRules(e *element) {
	kind, _ := e.attr("type")
	if _, ok := e.attr("bootstrap_package"); ok {
		c.requireValue(e, "bootstrap_package", "type", "bootstrap")
	}
	for _, m := range e.elements("collectionModule") {
		if kind != "bootstrap" {
			c.errors.add(m.pos, `move it to <packages type="bootstrap">`, "<collectionModule> has no meaning in packages of type %q", kind)
		}
		enable, _ := m.attr("enable")
		if _, ok := m.attr("stream"); ok && !isTrue(enable) {
			c.errors.add(m.attrPos("stream"), "a module is switched off as a whole", "attribute stream has no meaning when a module is switched off")
		}
	}
}

// bootloaderUse says which boot loaders know an attribute.
var bootloaderUse = map[string][]string{
	"console":        {"grub2", "isolinux", "grub2_s390x_emu"},
	"output_console": {"grub2", "grub2_s390x_emu"},
	"input_console":  {"grub2", "grub2_s390x_emu"},
	"serial_line":    {"grub2", "grub2_s390x_emu"},
	"timeout":        {"grub2", "isolinux", "grub2_s390x_emu", "systemd_boot", "zipl"},
	"timeout_style":  {"grub2", "grub2_s390x_emu"},
	"targettype":     {"grub2", "grub2_s390x_emu", "zipl"},
	"bls":            {"grub2"},
}

func (c *validator) bootloaderRules(e *element) {
	if name, _ := e.attr("name"); e.child("securelinux") != nil && name != "zipl" && name != "grub2_s390x_emu" {
		c.errors.add(e.child("securelinux").pos, "it is for zipl, grub2_s390x_emu", "<securelinux> has no meaning for the boot loader %s", name)
	}
	for _, a := range e.attrs {
		if loaders, ok := bootloaderUse[a.name]; ok {
			c.requireValue(e, a.name, "name", loaders...)
		}
	}
}

// reservedPartitions are names that the builder gives to its own partitions.
var reservedPartitions = []string{"root", "readonly", "boot", "prep", "spare", "swap", "efi_csm", "efi"}

func (c *validator) partitionRules(e *element) {
	for _, p := range e.elements("partition") {
		if name, _ := p.attr("name"); contains(reservedPartitions, name) {
			c.errors.add(p.attrPos("name"), "choose another name", "the partition name %q is reserved", name)
		}
	}
}

func (c *validator) sizeRules(e *element) {
	unpartitioned, ok := e.attr("unpartitioned")
	if !ok {
		return
	}
	size, sizeErr := parseMiB(collapse(e.text()))
	part, partErr := parseMiB(collapse(unpartitioned))
	if sizeErr == nil && partErr == nil && part > size {
		c.errors.add(e.attrPos("unpartitioned"), "it is part of the size", "unpartitioned %d is larger than the size %d", part, size)
	}
}

func (c *validator) repositoryRules(e *element) {
	for _, attr := range []string{"use_for_bootstrap", "architectures"} {
		if _, ok := e.attr(attr); ok {
			c.requireValue(e, attr, "type", "apt-deb")
		}
	}
}

func (c *validator) containerRules(e *element) {
	for _, name := range []string{"entrypoint", "subcommand"} {
		for _, p := range e.elements(name) {
			execute, _ := p.attr("execute")
			if _, clear := p.attr("clear"); !clear && strings.TrimSpace(execute) == "" {
				c.errors.add(p.pos, `add execute="..." or clear="true"`, "<%s> needs a program", name)
			}
		}
	}
}

func (c *validator) imageRules(e *element) {
	bootstraps := 0
	for _, r := range e.elements("repository") {
		v, _ := r.attr("use_for_bootstrap")
		if isTrue(v) {
			if bootstraps++; bootstraps == 2 {
				c.errors.add(r.attrPos("use_for_bootstrap"), "", "only one repository can be used for the bootstrap")
			}
		}
	}
	apt := false
	for _, p := range e.elements("preferences") {
		if m := p.child("packagemanager"); m != nil && collapse(m.text()) == "apt" {
			apt = true
		}
	}
	for _, p := range e.elements("packages") {
		if _, ok := p.attr("bootstrap_package"); ok && !apt {
			c.errors.add(p.attrPos("bootstrap_package"), "", "attribute bootstrap_package of <packages> needs the package manager apt")
		}
	}
}
