package disk

import (
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
	set("virtualHW.version", or(m.HWVersion, "9"))
	set("displayName", title)
	set("guestOS", or(m.GuestOS, "otherlinux-64"))
	memory := m.Memory
	if memory == 0 {
		memory = 512
	}
	set("memsize", fmt.Sprint(memory))
	set("numvcpus", fmt.Sprint(max(m.CPUs, 1)))
	if d.efi && !d.bios {
		set("firmware", "efi")
	}
	set("pciBridge0.present", "TRUE")
	drive := &description.VMDisk{}
	if m.Disk != nil {
		drive = m.Disk
	}
	controller, id := or(drive.Controller, "ide"), or(drive.ID, "0")
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
		dvd := m.DVD.Controller + "0:" + or(m.DVD.ID, "1")
		set(dvd+".present", "TRUE")
		set(dvd+".deviceType", "cdrom-raw")
		set(dvd+".autodetect", "TRUE")
		set(dvd+".startConnected", "FALSE")
	}
	for i, nic := range m.NICs {
		name := "ethernet" + or(nic.Interface, fmt.Sprint(i))
		set(name+".present", "TRUE")
		set(name+".virtualDev", or(nic.Driver, "e1000"))
		if nic.MAC != "" {
			set(name+".addressType", "static")
			set(name+".address", nic.MAC)
		} else {
			set(name+".addressType", "generated")
		}
		set(name+".connectionType", or(nic.Mode, "bridged"))
	}
	set("usb.present", "TRUE")
	set("tools.syncTime", "TRUE")
	for _, entry := range m.ConfigEntries {
		b.WriteString(strings.TrimSpace(entry) + "\n")
	}
	return b.String()
}

// or returns value, or other if value is empty.
func or(value, other string) string {
	if value == "" {
		return other
	}
	return value
}
