package disk

import (
	"archive/tar"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/xml"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/imgbuild/imgbuild/description"
	"github.com/imgbuild/imgbuild/imagetypes/image"
)

// The Open Virtualization Format: DMTF DSP0243 1.1.1. Numbers of resources are those of the CIM class CIM_ResourceAllocationSettingData.
const (
	ovfProcessor = 3
	ovfMemory    = 4
	ovfIDE       = 5
	ovfSCSI      = 6
	ovfEthernet  = 10
	ovfDVD       = 15
	ovfDisk      = 17
)

// ovfMachine is what differs between machines of VMware and of VirtualBox.
type ovfMachine struct {
	Family string // vssd:VirtualSystemType
	File   string // the disk's name beside the description
	Size   int64  // of that file, in bytes
	// VMware has the description's network cards and settings; a box for VirtualBox has one card, behind network address translation, and the rest
	// in its Vagrantfile.
	VMware bool
}

// ovfText collects the description of a machine.
type ovfText struct {
	strings.Builder
	id int // of the last item
}

// element writes an element that holds a text.
func (b *ovfText) element(indent, name, text string) {
	fmt.Fprintf(b, "%s<%s>%s</%s>\n", indent, name, escapeXML(text), name)
}

func escapeXML(text string) string {
	var b strings.Builder
	_ = xml.EscapeText(&b, []byte(text)) // a strings.Builder takes everything
	return b.String()
}

// field is one property of an item, such as ResourceType. They come in the order of their names, as the format's schema wants it.
type field struct{ name, value string }

// item writes a part of the machine and returns its number. bound is min or max for a limit of the part before, else empty.
func (b *ovfText) item(bound string, kind int, fields ...field) int {
	attribute := ""
	if bound == "" {
		b.id++
	} else {
		attribute = fmt.Sprintf(" ovf:bound=%q", bound)
	}
	fmt.Fprintf(b, "      <Item%s>\n", attribute)
	all := []field{{"InstanceID", strconv.Itoa(b.id)}, {"ResourceType", strconv.Itoa(kind)}}
	for _, name := range []string{"Address", "AddressOnParent", "AllocationUnits", "AutomaticAllocation", "Connection", "ElementName", "HostResource", "InstanceID", "Parent", "ResourceSubType", "ResourceType", "VirtualQuantity"} {
		for _, f := range append(all, fields...) {
			if f.name == name && f.value != "" {
				b.element("        ", "rasd:"+name, f.value)
			}
		}
	}
	b.WriteString("      </Item>\n")
	return b.id
}

// quantity writes a part that there is much or little of, with its limits.
func (b *ovfText) quantity(kind, normal, least, most int, unit, name string) {
	b.item("", kind, field{"AllocationUnits", unit}, field{"ElementName", fmt.Sprintf("%d %s", normal, name)}, field{"VirtualQuantity", strconv.Itoa(normal)})
	limits := []struct {
		bound, words string
		n            int
	}{{"min", "at least", least}, {"max", "at most", most}}
	for _, l := range limits {
		if l.n > 0 {
			b.item(l.bound, kind, field{"AllocationUnits", unit}, field{"ElementName", fmt.Sprintf("%d %s %s", l.n, name, l.words)}, field{"VirtualQuantity", strconv.Itoa(l.n)})
		}
	}
}

// ovf describes a machine with the disk.
func (d *design) ovf(title string, machine ovfMachine) string {
	m := d.typ.Machine
	if m == nil {
		m = &description.Machine{}
	}
	cards := m.NICs
	if !machine.VMware || len(cards) == 0 {
		cards = []description.VMNIC{{Mode: "nat"}}
	}
	b := &ovfText{}
	fmt.Fprintf(b, `<?xml version="1.0" encoding="UTF-8"?>
<Envelope ovf:version="1.0" xml:lang="en-US" xmlns="http://schemas.dmtf.org/ovf/envelope/1" xmlns:ovf="http://schemas.dmtf.org/ovf/envelope/1" xmlns:rasd="http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_ResourceAllocationSettingData" xmlns:vssd="http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_VirtualSystemSettingData" xmlns:vmw="http://www.vmware.com/schema/ovf">
  <References>
    <File ovf:href="%s" ovf:id="file1" ovf:size="%d"/>
  </References>
  <DiskSection>
    <Info>The disk</Info>
    <Disk ovf:capacity="%d" ovf:capacityAllocationUnits="byte" ovf:diskId="vmdisk1" ovf:fileRef="file1" ovf:format="http://www.vmware.com/interfaces/specifications/vmdk.html#streamOptimized"/>
  </DiskSection>
  <NetworkSection>
    <Info>The networks</Info>
`, escapeXML(machine.File), machine.Size, d.table.DiskSize)
	seen := map[string]bool{}
	for _, nic := range cards {
		if name := network(nic); !seen[name] {
			seen[name] = true
			fmt.Fprintf(b, "    <Network ovf:name=\"%s\">\n      <Description>The network %[1]s</Description>\n    </Network>\n", escapeXML(name))
		}
	}
	fmt.Fprintf(b, "  </NetworkSection>\n  <VirtualSystem ovf:id=\"%s\">\n    <Info>The machine</Info>\n", escapeXML(title))
	b.element("    ", "Name", title)
	guest := guestOS(m)
	fmt.Fprintf(b, "    <OperatingSystemSection ovf:id=\"%d\" vmw:osType=\"%s\">\n      <Info>The system</Info>\n    </OperatingSystemSection>\n", osNumber(m), escapeXML(ovfGuest(guest)))
	fmt.Fprintf(b, "    <VirtualHardwareSection>\n      <Info>The hardware</Info>\n      <System>\n        <vssd:ElementName>Virtual Hardware Family</vssd:ElementName>\n        <vssd:InstanceID>0</vssd:InstanceID>\n        <vssd:VirtualSystemIdentifier>%s</vssd:VirtualSystemIdentifier>\n        <vssd:VirtualSystemType>%s</vssd:VirtualSystemType>\n      </System>\n", escapeXML(title), machine.Family)
	d.ovfHardware(b, m, cards, machine.VMware)
	b.WriteString("    </VirtualHardwareSection>\n  </VirtualSystem>\n</Envelope>\n")
	return b.String()
}

// ovfHardware writes the parts of the machine.
func (d *design) ovfHardware(b *ovfText, m *description.Machine, cards []description.VMNIC, vmware bool) {
	b.quantity(ovfProcessor, max(m.CPUs, m.MinCPU, 1), m.MinCPU, m.MaxCPU, "hertz * 10^6", "processors")
	b.quantity(ovfMemory, cmp.Or(m.Memory, max(m.MinMemory, defaultMemory)), m.MinMemory, m.MaxMemory, "byte * 2^20", "MiB of memory")
	drive := description.VMDisk{}
	if m.Disk != nil {
		drive = *m.Disk
	}
	controllers := map[int]int{}
	controller := func(name string) int {
		kind, sub := ovfIDE, ""
		if name != "ide" {
			kind, sub = ovfSCSI, ovfController(name, vmware)
		}
		if controllers[kind] == 0 {
			controllers[kind] = b.item("", kind, field{"Address", "0"}, field{"ElementName", "controller " + name}, field{"ResourceSubType", sub})
		}
		return controllers[kind]
	}
	parent := controller(cmp.Or(drive.Controller, "ide"))
	b.item("", ovfDisk, field{"AddressOnParent", cmp.Or(drive.ID, "0")}, field{"ElementName", "disk"}, field{"HostResource", "ovf:/disk/vmdisk1"}, field{"Parent", strconv.Itoa(parent)})
	if m.DVD != nil {
		parent := controller(m.DVD.Controller)
		b.item("", ovfDVD, field{"AddressOnParent", cmp.Or(m.DVD.ID, "1")}, field{"AutomaticAllocation", "false"}, field{"ElementName", "DVD drive"}, field{"Parent", strconv.Itoa(parent)})
	}
	for i, nic := range cards {
		b.item("", ovfEthernet, field{"Address", nic.MAC}, field{"AddressOnParent", cmp.Or(nic.Interface, strconv.Itoa(i))}, field{"AutomaticAllocation", "true"},
			field{"Connection", network(nic)}, field{"ElementName", "network card"}, field{"ResourceSubType", ovfCard(nic.Driver)})
	}
	if !vmware {
		return
	}
	if d.efi && !d.bios {
		b.WriteString("      <vmw:Config ovf:required=\"false\" vmw:key=\"firmware\" vmw:value=\"efi\"/>\n")
	}
	for _, entry := range m.ConfigEntries {
		key, value, found := strings.Cut(entry, "=")
		if found {
			fmt.Fprintf(b, "      <vmw:ExtraConfig ovf:required=\"false\" vmw:key=\"%s\" vmw:value=\"%s\"/>\n", escapeXML(strings.TrimSpace(key)), escapeXML(strings.Trim(strings.TrimSpace(value), `"`)))
		}
	}
}

// network names the network that a card is connected to.
func network(nic description.VMNIC) string {
	switch mode := strings.ToLower(nic.Mode); mode {
	case "":
		return "bridged"
	case "nat":
		return "NAT"
	default:
		return mode
	}
}

// ovfController is the format's name of a SCSI controller.
func ovfController(name string, vmware bool) string {
	switch {
	case name == "lsisas1068":
		return "lsilogicsas"
	case name == "pvscsi" && vmware:
		return "VirtualSCSI"
	case name == "buslogic":
		return name
	}
	return "lsilogic"
}

// ovfCard is the format's name of a network card.
func ovfCard(driver string) string {
	switch strings.ToLower(driver) {
	case "":
		return "E1000"
	case "vlance":
		return "PCNet32"
	}
	return strings.ToUpper(driver[:1]) + driver[1:]
}

// osNumber is the system's number: CIM_OperatingSystem.OSType, Linux and 64-bit Linux.
func osNumber(m *description.Machine) int {
	if m.Arch == "ix86" {
		return 36
	}
	return 101
}

// ovfGuest turns VMware's name of a system in a settings file into the one that its API has: debian10-64 is debian10_64Guest, ubuntu-64 ubuntu64Guest.
func ovfGuest(name string) string {
	if strings.HasSuffix(name, "Guest") {
		return name
	}
	base, wide := strings.CutSuffix(name, "-64")
	if wide && base != "" && base[len(base)-1] >= '0' && base[len(base)-1] <= '9' {
		base += "_"
	}
	if other, ok := strings.CutSuffix(base, "linux"); ok && strings.HasPrefix(base, "other") {
		base = other + "Linux"
	}
	if wide {
		base += "64"
	}
	return base + "Guest"
}

// writeOVA packs description, check sums and disk.
func (d *design) writeOVA(ctx context.Context, r *image.Request, disk, name string) error {
	info, err := os.Stat(disk)
	if err != nil {
		return err
	}
	hardware := defaultHardware
	if m := d.typ.Machine; m != nil && m.HWVersion != "" {
		hardware = m.HWVersion
	}
	inside := r.BaseName + "-disk1.vmdk"
	text := d.ovf(r.Description.Name, ovfMachine{Family: fmt.Sprintf("vmx-%02s", hardware), File: inside, Size: info.Size(), VMware: true})
	sum, err := fileSum(ctx, disk)
	if err != nil {
		return err
	}
	manifest := fmt.Sprintf("SHA256(%s.ovf)= %x\nSHA256(%s)= %x\n", r.BaseName, sha256.Sum256([]byte(text)), inside, sum)
	return writeTarFile(filepath.Join(r.Dir, name), func(w io.Writer) error {
		return packTar(ctx, w, d.ids.Epoch, []packedFile{{r.BaseName + ".ovf", text, ""}, {r.BaseName + ".mf", manifest, ""}, {inside, "", disk}})
	})
}

// packedFile is a file of a package: a text, or a file of this machine.
type packedFile struct{ name, text, file string }

// packTar writes a tar archive.
func packTar(ctx context.Context, out io.Writer, at time.Time, files []packedFile) error {
	w := tar.NewWriter(out)
	for _, p := range files {
		var content io.Reader = strings.NewReader(p.text)
		size := int64(len(p.text))
		if p.file != "" {
			f, err := os.Open(p.file)
			if err != nil {
				return err
			}
			defer f.Close()
			info, err := f.Stat()
			if err != nil {
				return err
			}
			content, size = f, info.Size()
		}
		if err := w.WriteHeader(&tar.Header{Name: p.name, Mode: 0o644, Size: size, ModTime: at}); err != nil {
			return err
		}
		if err := copyChunks(ctx, w, content); err != nil {
			return err
		}
	}
	return w.Close()
}

// copyChunks copies until the end, or until ctx ends.
func copyChunks(ctx context.Context, w io.Writer, r io.Reader) error {
	const chunk = 1 << 20
	buffer := make([]byte, chunk)
	for {
		if err := context.Cause(ctx); err != nil {
			return err
		}
		n, err := r.Read(buffer)
		if _, failed := w.Write(buffer[:n]); failed != nil {
			return failed
		}
		switch err {
		case nil:
		case io.EOF:
			return nil
		default:
			return err
		}
	}
}

// fileSum is the SHA-256 of a file.
func fileSum(ctx context.Context, name string) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	h := sha256.New()
	err = copyChunks(ctx, h, f)
	return h.Sum(nil), err
}

// writeTarFile makes a new file.
func writeTarFile(name string, write func(io.Writer) error) error {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	err = write(f)
	if closing := f.Close(); err == nil {
		err = closing
	}
	if err != nil {
		return fmt.Errorf("writing %s: %w", filepath.Base(name), err)
	}
	return nil
}
