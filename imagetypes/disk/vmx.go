package disk

import (
	"cmp"
	"fmt"
	"strings"

	"github.com/imgbuild/imgbuild/description"
)

// vmx returns the settings file of VMware for the disk.
func (d *design) vmx(title, disk string) string {
	m := d.typ.Machine
	if m == nil {
		m = &description.Machine{}
	}
	var b strings.Builder
	set := func(key, value string) { fmt.Fprintf(&b, "%s = %q\n", key, value) }
	set(".encoding", "UTF-8")
	set("config.version", "8")
	set("virtualHW.version", cmp.Or(m.HWVersion, defaultHardware))
	set("displayName", title)
	set("guestOS", guestOS(m))
	set("memsize", fmt.Sprint(cmp.Or(m.Memory, defaultMemory)))
	set("numvcpus", fmt.Sprint(max(m.CPUs, 1)))
	if d.efi && !d.bios {
		set("firmware", "efi")
	}
	set("pciBridge0.present", "TRUE")
	drive := &description.VMDisk{}
	if m.Disk != nil {
		drive = m.Disk
	}
	controller, id := cmp.Or(drive.Controller, "ide"), cmp.Or(drive.ID, "0")
	slot := "ide0:" + id
	if controller != "ide" {
		slot = "scsi0:" + id
		set("scsi0.present", "TRUE")
		set("scsi0.virtualDev", controller)
	}
	set(slot+".present", "TRUE")
	set(slot+".fileName", disk)
	set(slot+".redo", "")
	if m.DVD != nil {
		dvd := m.DVD.Controller + "0:" + cmp.Or(m.DVD.ID, "1")
		set(dvd+".present", "TRUE")
		set(dvd+".deviceType", "cdrom-raw")
		set(dvd+".autodetect", "TRUE")
		set(dvd+".startConnected", "FALSE")
	}
	for i, nic := range m.NICs {
		name := "ethernet" + cmp.Or(nic.Interface, fmt.Sprint(i))
		set(name+".present", "TRUE")
		set(name+".virtualDev", cmp.Or(nic.Driver, "e1000"))
		if nic.MAC != "" {
			set(name+".addressType", "static")
			set(name+".address", nic.MAC)
		} else {
			set(name+".addressType", "generated")
		}
		set(name+".connectionType", cmp.Or(nic.Mode, "bridged"))
	}
	set("usb.present", "TRUE")
	set("tools.syncTime", "TRUE")
	for _, entry := range m.ConfigEntries {
		b.WriteString(strings.TrimSpace(entry) + "\n")
	}
	return b.String()
}

// defaultMemory is a machine's memory in MiB if the description does not say.
const defaultMemory = 512

// defaultHardware is the version of a machine's virtual hardware if the description does not say.
const defaultHardware = "9"

// guestOS is VMware's name of the system.
func guestOS(m *description.Machine) string {
	if m.Arch == "ix86" {
		return cmp.Or(m.GuestOS, "otherlinux")
	}
	return cmp.Or(m.GuestOS, "otherlinux-64")
}
