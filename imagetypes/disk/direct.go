package disk

import (
	"github.com/imgbuild/imgbuild/imagetypes/grub"
	"github.com/imgbuild/imgbuild/imagetypes/image"
)

// Start is what somebody needs to know who starts a disk without the boot loader in it.
type Start struct {
	Cmdline    string      // of the kernel, with its root=
	Format     string      // of the disk's file, as in the description; raw by default
	BIOS       bool        // a BIOS starts the disk
	Menu       bool        // GRUB's menu lies on the disk
	Filesystem string      // that has /boot
	Device     grub.Device // where that is
	Prefix     string      // GRUB's directory on the device; "" without a tree
}

// StartOf tells how the disk of a request will be started. The request's tree may be nil.
func StartOf(r *image.Request) (*Start, error) {
	d, err := newDesign(r.Description, r.Repro)
	if err != nil {
		return nil, err
	}
	s := &Start{Cmdline: d.kernelCmdline(), Format: d.results[0].format.Name, BIOS: d.bios, Menu: d.bootloader && !d.systemd, Filesystem: bootVolume(d.volumes).FS, Device: d.device()}
	if r.Tree != nil {
		s.Prefix = d.onDevice(grub.Directory(r.Tree))
	}
	return s, nil
}
