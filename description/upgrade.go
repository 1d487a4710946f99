package description

import (
	"fmt"
	"strconv"
	"strings"
)

// upgrader brings a tree up from the schema version it was written in.
type upgrader struct {
	root     *element
	warnings Errors
	errors   Errors
}

// upgradeStep is what changed from one schema version to the next.
type upgradeStep struct {
	to    version
	apply func(*upgrader)
}

// upgradeSteps are all changes since 5.0, in order. Versions without a step
// changed nothing that needs rewriting.
var upgradeSteps = []upgradeStep{
	{501, func(u *upgrader) {
		u.dropElements("baseroot", "defaultbaseroot")
		u.dropAttrs("*", "baseroot", "defaultbaseroot")
	}},
	{502, func(u *upgrader) {
		u.dropAttrs("image", "inherit")
		u.dropUSBTypes()
	}},
	{504, func(u *upgrader) { u.dropAttrs("drivers", "type") }},
	{505, (*upgrader).splitBootTheme},
	{506, func(u *upgrader) {
		u.renameAttrs("user", "pwd", "password")
		u.renameAttrs("repository", "pwd", "password")
	}},
	{507, func(u *upgrader) {
		u.renameElements("packages", "opensusePattern", "namedCollection")
		u.renameElements("packages", "rhelGroup", "namedCollection")
	}},
	{508, func(u *upgrader) { u.dropAttrs("type", "syncMBR") }},
	{509, func(u *upgrader) { u.changeValues("vmdisk", "controller", map[string]string{"scsi": "lsilogic"}) }},
	{600, func(u *upgrader) { u.dropElements("oem-align-partition") }},
	{601, func(u *upgrader) { u.renameElements("packages", "opensuseProduct", "product") }},
	{602, (*upgrader).addBootloader},
	{603, func(u *upgrader) {
		u.dropAttrs("type", "fsreadonly", "fsreadwrite", "zfsoptions")
		u.dropElements("split")
	}},
	{604, (*upgrader).moveGroups},
	{605, (*upgrader).moveContainerName},
	{606, (*upgrader).moveXenDomain},
	{607, func(u *upgrader) {
		u.dropAttrs("image", "kiwirevision")
		u.dropAttrs("type", "checkprebuilt", "fsnocheck")
		u.dropAttrs("repository", "status", "prefer-license")
		u.dropAttrs("package", "replaces")
		u.dropElements("defaultprebuilt", "defaultdestination", "defaultroot", "partitioner", "rpm-force")
	}},
	{608, func(u *upgrader) { u.dropElements("hwclock") }},
	{609, func(u *upgrader) {
		u.dropAttrs("type", "hybrid")
		u.dropElements("oem-ataraid-scan")
	}},
	{700, func(u *upgrader) { u.dropElements("pxedeploy") }},
	{701, func(u *upgrader) {
		u.dropValues("repository", "type", "red-carpet", "slack-site", "up2date-mirrors", "urpmi", "yast2")
	}},
	{702, (*upgrader).moveBootloader},
	{703, (*upgrader).replaceVMX},
	{704, func(u *upgrader) { u.changeTexts("packagemanager", map[string]string{"apt-get": "apt", "yum": "dnf"}) }},
	{705, (*upgrader).moveAdditionalTags},
	{706, func(u *upgrader) { u.changeTexts("packagemanager", map[string]string{"dnf": "dnf4"}) }},
	{801, func(u *upgrader) { u.dropValues("repository", "type", "rpm-dir") }},
	{802, func(u *upgrader) { u.dropAttrs("repository", "use_for_bootstrap") }},
	{803, func(u *upgrader) {
		u.renameAttrs("type", "btrfs_root_is_snapshot", "btrfs_root_is_snapper_snapshot")
	}},
	{804, (*upgrader).splitConsole},
	{805, func(u *upgrader) { u.dropAttrs("type", "vga") }},
}

// parseVersion reads a schemaversion attribute.
func parseVersion(s string) (version, error) {
	major, minor, ok := strings.Cut(strings.TrimSpace(s), ".")
	if !ok {
		minor = "0"
	}
	a, err := strconv.ParseUint(major, 10, 8)
	if err != nil {
		return 0, fmt.Errorf("schema version %q is not of the form 7.6", s)
	}
	b, err := strconv.ParseUint(minor, 10, 6)
	if err != nil {
		return 0, fmt.Errorf("schema version %q is not of the form 7.6", s)
	}
	return version(a*100 + b), nil
}

func (v version) String() string { return fmt.Sprintf("%d.%d", int(v)/100, int(v)%100) }

// exists reports whether there has been a schema of this version.
func (v version) exists() bool {
	lastMinor := map[version]version{5: 9, 6: 9, 7: 6, 8: 5}
	last, ok := lastMinor[v/100]
	return ok && v%100 <= last
}

// target is the version that a document is brought to: the newest of its own
// line, so that the result still is what its author's KIWI reads.
func (v version) target() version {
	if v <= v7_6 {
		return v7_6
	}
	return latestVersion
}

// upgrade brings the tree to the target version of the one it is written in.
func (u *upgrader) upgrade(from, to version) {
	for _, step := range upgradeSteps {
		if step.to > from && step.to <= to {
			step.apply(u)
		}
	}
	u.root.setAttr("schemaversion", to.String(), u.root.pos)
}

func (u *upgrader) warn(pos Position, hint, format string, args ...any) {
	u.warnings.add(pos, hint, format, args...)
}

// each calls fn for every element of a name; "*" means all.
func (u *upgrader) each(name string, fn func(*element)) {
	var found []*element
	u.root.walk(func(e *element) {
		if name == "*" || e.name == name {
			found = append(found, e)
		}
	})
	for _, e := range found {
		fn(e)
	}
}

func (u *upgrader) dropAttrs(elem string, names ...string) {
	u.each(elem, func(e *element) {
		for _, name := range names {
			if a, ok := e.dropAttr(name); ok {
				u.warn(a.pos, "", "attribute %s of <%s> has no meaning any more and is ignored", name, e.name)
			}
		}
	})
}

func (u *upgrader) renameAttrs(elem, from, to string) {
	u.each(elem, func(e *element) {
		if _, ok := e.attr(to); !ok {
			e.renameAttr(from, to)
		}
	})
}

// dropElements removes elements. What they hold goes with them when it is
// only text; elements inside would lose their meaning and are an error.
func (u *upgrader) dropElements(names ...string) {
	u.each("*", func(e *element) {
		for _, name := range names {
			for _, c := range e.elements(name) {
				if inner := c.elements(""); len(inner) > 0 && name != "pxedeploy" {
					u.errors.add(inner[0].pos, "remove it; imgbuild and KIWI 9 can't do what it asks for",
						"<%s> and what it holds are no longer part of the language", name)
					continue
				}
				u.warn(c.pos, "", "<%s> has no meaning any more and is ignored", name)
			}
		}
		e.dropChildren(names...)
	})
}

func (u *upgrader) renameElements(parent, from, to string) {
	u.each(parent, func(p *element) {
		for _, c := range p.elements(from) {
			c.name = to
		}
	})
}

func (u *upgrader) changeValues(elem, attr string, values map[string]string) {
	u.each(elem, func(e *element) {
		if v, ok := e.attr(attr); ok && values[v] != "" {
			e.setAttr(attr, values[v], e.pos)
		}
	})
}

func (u *upgrader) changeTexts(elem string, values map[string]string) {
	u.each(elem, func(e *element) {
		if to := values[collapse(e.text())]; to != "" {
			e.setText(to)
		}
	})
}

func (u *upgrader) dropValues(elem, attr string, values ...string) {
	u.each(elem, func(e *element) {
		if v, ok := e.attr(attr); ok && contains(values, v) {
			a, _ := e.dropAttr(attr)
			u.warn(a.pos, "", "%s %q of <%s> has no meaning any more and is ignored", attr, v, elem)
		}
	})
}

// dropUSBTypes removes types of the image usb, which 5.2 dropped.
func (u *upgrader) dropUSBTypes() {
	u.each("preferences", func(p *element) {
		kept := p.children[:0]
		for _, c := range p.children {
			if c.elem != nil && c.elem.name == "type" {
				if image, _ := c.elem.attr("image"); image == "usb" {
					u.warn(c.elem.pos, "use oem: its disk also boots from a stick", "the image type usb has no meaning any more and is ignored")
					continue
				}
			}
			kept = append(kept, c)
		}
		p.children = kept
	})
}

// splitBootTheme turns <boot-theme> into the two themes it stood for.
func (u *upgrader) splitBootTheme() {
	u.each("preferences", func(p *element) {
		var children []node
		for _, c := range p.children {
			if c.elem == nil || c.elem.name != "boot-theme" {
				children = append(children, c)
				continue
			}
			for _, name := range []string{"bootloader-theme", "bootsplash-theme"} {
				theme := c.elem.clone()
				theme.name = name
				children = append(children, node{elem: theme})
			}
		}
		p.children = children
	})
}

// addBootloader gives disks that name no boot loader the one of 6.2.
func (u *upgrader) addBootloader() {
	u.each("type", func(t *element) {
		image, _ := t.attr("image")
		if _, ok := t.attr("bootloader"); !ok && (image == "oem" || image == "vmx") {
			t.setAttr("bootloader", "grub2", t.pos)
		}
	})
}

// moveGroups moves the group of <users> to each of its users.
func (u *upgrader) moveGroups() {
	u.each("users", func(users *element) {
		users.dropAttr("id")
		group, ok := users.dropAttr("group")
		if !ok {
			return
		}
		for _, user := range users.elements("user") {
			user.setAttr("groups", group.value, group.pos)
		}
	})
}

// moveContainerName moves the container attribute into <containerconfig>.
func (u *upgrader) moveContainerName() {
	u.each("type", func(t *element) {
		if name, ok := t.dropAttr("container"); ok {
			config := &element{name: "containerconfig", pos: name.pos}
			config.setAttr("name", name.value, name.pos)
			t.children = append([]node{{elem: config}}, t.children...)
		}
	})
}

// moveXenDomain turns <machine domain="dom0"> into xen_server of the type.
func (u *upgrader) moveXenDomain() {
	u.each("type", func(t *element) {
		for _, m := range t.elements("machine") {
			if domain, ok := m.dropAttr("domain"); ok && domain.value == "dom0" {
				t.setAttr("xen_server", "true", domain.pos)
			}
		}
	})
}

// moveBootloader turns the boot loader attributes of <type> into an element.
func (u *upgrader) moveBootloader() {
	u.each("type", func(t *element) {
		moved := []struct{ from, to string }{
			{"bootloader", "name"}, {"bootloader_console", "console"},
			{"boottimeout", "timeout"}, {"zipl_targettype", "targettype"},
		}
		loader := &element{name: "bootloader", pos: t.attrPos("bootloader")}
		for _, m := range moved {
			if a, ok := t.dropAttr(m.from); ok && a.value != "" {
				loader.setAttr(m.to, a.value, a.pos)
			}
		}
		if _, ok := loader.attr("name"); ok {
			t.children = append([]node{{elem: loader}}, t.children...)
		}
	})
}

// replaceVMX turns the type vmx into the oem disk that does not grow.
func (u *upgrader) replaceVMX() {
	u.each("type", func(t *element) {
		if image, _ := t.attr("image"); image != "vmx" {
			return
		}
		t.setAttr("image", "oem", t.pos)
		config := t.child("oemconfig")
		if config == nil {
			config = &element{name: "oemconfig", pos: t.attrPos("image")}
			t.children = append([]node{{elem: config}}, t.children...)
		}
		config.dropChildren("oem-resize")
		resize := &element{name: "oem-resize", pos: t.attrPos("image")}
		resize.setText("false")
		config.children = append(config.children, node{elem: resize})
	})
}

// moveAdditionalTags turns additionaltags "a,b" into additionalnames ":a,:b".
func (u *upgrader) moveAdditionalTags() {
	u.each("containerconfig", func(c *element) {
		if tags, ok := c.dropAttr("additionaltags"); ok {
			c.setAttr("additionalnames", ":"+strings.ReplaceAll(tags.value, ",", ",:"), tags.pos)
		}
	})
}

// splitConsole tells GRUB's output from its input terminals.
func (u *upgrader) splitConsole() {
	u.each("bootloader", func(b *element) {
		if console, ok := b.dropAttr("console"); ok {
			output, input, both := strings.Cut(collapse(console.value), " ")
			b.setAttr("output_console", output, console.pos)
			if both {
				b.setAttr("input_console", input, console.pos)
			}
		}
	})
}
