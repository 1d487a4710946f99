package legacy2006

import (
	"bytes"
	"cmp"
	"encoding/xml"
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"
)

// XenProfile is the profile of the image as a guest of Xen, with the packages of <xenvm>: what KIWI made when it was asked for a Xen machine. plainProfile is the
// image without them, which is made if nobody asks.
const (
	XenProfile   = "xen"
	plainProfile = "plain"
)

// upgrade writes the description in the format of today.
func (d *document) upgrade() *Upgraded {
	w := &writer{}
	name := d.take("name")
	if name.value == "" {
		d.fail(d.at, `add <image name="NAME"/>`, "the description does not name its image")
	}
	kind := d.take("type")
	if kind.value == "" {
		d.fail(d.at, `add <image type="ext3"/>`, "the description does not say of what type its image is")
	}
	w.line(d.at, `<?xml version="1.0" encoding="utf-8"?>`)
	w.line(name.or(d.at), `<image schemaversion="7.6" name=%s>`, quote(name.value))
	w.line(d.at, `<description type="system"><author>unknown</author><contact>unknown</contact><specification>%s</specification></description>`, text(name.value))
	if len(d.xen) > 0 {
		w.line(d.xen[0].Position, `<profiles>`)
		w.line(d.xen[0].Position, `<profile name=%s description="any machine" import="true"/>`, quote(plainProfile))
		w.line(d.xen[0].Position, `<profile name=%s description="a guest of Xen"/>`, quote(XenProfile))
		w.line(d.xen[0].Position, `</profiles>`)
	}
	d.preferences(w, kind)
	d.drivers(w)
	d.repositories(w)
	packages(w, "image", "", d.packages)
	packages(w, "image", XenProfile, d.xen)
	packages(w, "bootstrap", "", d.bootstrap)
	w.line(d.at, `</image>`)
	d.unused()
	return &Upgraded{XML: w.text.Bytes(), Lines: w.lines, Files: d.files()}
}

// take returns the last setting of a key, and notes that it has been used.
func (d *document) take(key string) (found setting) {
	for _, s := range d.settings {
		if s.key == key {
			found = s
		}
	}
	d.settings = slices.DeleteFunc(d.settings, func(s setting) bool { return s.key == key })
	return found
}

// or is the setting's place, or another one if it is not there.
func (s setting) or(at Position) Position {
	if s.Line == 0 {
		return at
	}
	return s.Position
}

func (d *document) preferences(w *writer, kind setting) {
	d.manager = "zypper"
	if slices.ContainsFunc(d.sources, func(s source) bool { return strings.HasSuffix(s.kind, "deb") || s.kind == "deb-dir" }) {
		d.manager = "apt"
	}
	w.line(d.at, `<preferences>`)
	w.line(d.version.Position, `<version>%s</version>`, text(d.version.name))
	w.line(d.at, `<packagemanager>%s</packagemanager>`, d.manager)
	for _, key := range []string{"keytable", "timezone"} {
		if s := d.take(key); s.value != "" {
			w.line(s.Position, `<%s>%s</%[1]s>`, key, text(s.value))
		}
	}
	size := d.take("size")
	if len(d.xen) == 0 {
		d.imageType(w, kind, size, false)
		w.line(d.at, `</preferences>`)
	} else {
		w.line(d.at, `</preferences>`)
		for _, profile := range []string{plainProfile, XenProfile} {
			w.line(kind.Position, `<preferences profiles=%s>`, quote(profile))
			d.imageType(w, kind, size, profile == XenProfile)
			w.line(kind.Position, `</preferences>`)
		}
	}
	if s := d.take("compressed"); s.value != "" && s.value != "false" && s.value != "no" {
		d.warn(s.Position, "imgbuild result bundle compresses results", "compressed has no meaning for an image of type %s any more", kind.value)
	}
}

// guestMemory is the memory of a guest of Xen, which the format did not name, in MiB.
const guestMemory = 512

// imageType writes what is built, as a guest of Xen or not.
func (d *document) imageType(w *writer, kind, size setting, guest bool) {
	w.line(kind.Position, `<type image=%s>`, quote(kind.value))
	if guest {
		w.line(d.xen[0].Position, `<machine memory="%d"/>`, guestMemory)
	}
	if size.value != "" {
		d.size(w, size)
	}
	w.line(kind.Position, `</type>`)
}

// size writes the size of an image: a number and M or G.
func (d *document) size(w *writer, size setting) {
	parts := regexp.MustCompile(`^(\d{1,9})([MG]?)$`).FindStringSubmatch(size.value)
	if parts == nil {
		d.fail(size.Position, "write a number and M or G, such as 500M", "%.40q is not a size", size.value)
		return
	}
	w.line(size.Position, `<size unit="%s">%s</size>`, cmp.Or(parts[2], "M"), parts[1])
}

// driverFolders are the keys that list drivers, and the folder below /lib/modules/VERSION/kernel that the files of each are in.
func driverFolders() [][2]string {
	return [][2]string{{"drivers", ""}, {"netdrivers", "drivers/net"}, {"usbdrivers", "drivers/usb"}, {"scsidrivers", "drivers/scsi"}}
}

func (d *document) drivers(w *writer) {
	for _, key := range driverFolders() {
		s := d.take(key[0])
		var names []string
		for name := range strings.SplitSeq(s.value, ",") {
			if name = strings.TrimSpace(name); name != "" {
				names = append(names, path.Join(key[1], name))
			}
		}
		if len(names) == 0 {
			continue
		}
		w.line(s.Position, `<drivers>`)
		for _, name := range names {
			w.line(s.Position, `<file name=%s/>`, quote(name))
		}
		w.line(s.Position, `</drivers>`)
	}
}

// repositories writes the sources of packages. Their types were those of the package manager smart.
func (d *document) repositories(w *writer) {
	for _, s := range d.sources {
		kind := s.kind
		switch kind {
		case "apt-deb", "apt-rpm", "deb-dir", "rpm-dir", "rpm-md":
		case "":
			kind = "rpm-md"
			if d.manager == "apt" {
				kind = "apt-deb"
			}
		case "yast2":
			d.warn(s.Position, "name a directory that has repodata/", "repositories of type yast2 are taken for rpm-md, as SUSE has made them since")
			kind = "rpm-md"
		default:
			d.fail(s.Position, "known are rpm-md, rpm-dir, apt-deb, deb-dir, apt-rpm and yast2", "no package manager of today reads repositories of type %.40q", kind)
			continue
		}
		address := s.address
		if strings.HasPrefix(address, "/") {
			address = "dir://" + address
		}
		w.line(s.Position, `<repository type="%s"><source path=%s/></repository>`, kind, quote(address))
	}
}

func packages(w *writer, kind, profile string, list []named) {
	if len(list) == 0 {
		return
	}
	attribute := ""
	if profile != "" {
		attribute = " profiles=" + quote(profile)
	}
	w.line(list[0].Position, `<packages type="%s"%s>`, kind, attribute)
	for _, p := range list {
		w.line(p.Position, `<package name=%s/>`, quote(p.name))
	}
	w.line(list[len(list)-1].Position, `</packages>`)
}

// unused tells of settings that have no meaning any more.
func (d *document) unused() {
	for _, s := range d.settings {
		d.warn(s.Position, "", "the key %s of <image> has no meaning but as a variable for scripts", s.key)
	}
}

// writer writes a description line by line and remembers where each comes from.
type writer struct {
	text  bytes.Buffer
	lines []Position
}

func (w *writer) line(at Position, format string, args ...any) {
	fmt.Fprintf(&w.text, format+"\n", args...)
	w.lines = append(w.lines, at)
}

// text escapes a value for XML, in one line.
func text(value string) string {
	var b strings.Builder
	_ = xml.EscapeText(&b, []byte(value)) // a strings.Builder takes everything
	return b.String()
}

// quote is text as the value of an attribute.
func quote(value string) string { return `"` + text(value) + `"` }
