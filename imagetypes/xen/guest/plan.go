package guest

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/imgbuild/imgbuild/imagetypes/disk"
	"github.com/imgbuild/imgbuild/imagetypes/grub"
	"github.com/imgbuild/imgbuild/imagetypes/image"
	"github.com/imgbuild/imgbuild/imagetypes/kis"
	"github.com/imgbuild/imgbuild/imagetypes/xen"
	"github.com/imgbuild/imgbuild/rootfs/initrd"
)

// plan is what is decided about a guest before anything is made.
type plan struct {
	*machine
	request *image.Request
	config  xen.Config
	kernel  initrd.Kernel // the newest of the tree

	settings xen.Kernel // its own

	// What the host loads from beside the image: paths in the tree, "" for nothing.
	kernelFrom, initrdFrom string

	loader     *grub.Modules // of the GRUB that the host loads, nil for none
	menu       string        // GRUB's menu to be written, "" if there is one or nobody reads it
	menuDevice grub.Device   // that has the menu
	menuDir    string        // GRUB's directory as seen on the device
}

// need is who needs what is missing, in errors.
const need = "a guest of Xen"

// newPlan decides everything, as far as it can without a tree if the request has none, and refuses what no host of Xen could start.
func newPlan(r *image.Request) (*plan, error) {
	m, err := newMachine(r.Description)
	if err != nil {
		return nil, err
	}
	p := &plan{machine: m, request: r}
	if r.Tree != nil && m.kind != xen.HVM {
		if err := p.findKernel(); err != nil {
			return nil, image.Placed(m.Pos, err)
		}
	}
	p.config = xen.Config{
		Name: r.Description.Name, Type: p.kind, Memory: p.memory(), MaxMemory: p.MaxMemory, CPUs: p.CPUs, MaxCPUs: p.MaxCPU, NICs: p.nics, Entries: p.ConfigEntries,
		Comment: fmt.Sprintf("A guest of Xen. In the directory that has this file and those that it names, as root:\nxl create -c %s\n", p.configFile()),
	}
	switch r.Description.Type.Image {
	case "oem":
		err = p.disk()
	case "kis", "pxe":
		err = p.system()
	default:
		err = p.filesystem()
	}
	if err != nil {
		return nil, err
	}
	return p, p.pvgrubModules()
}

// configFile is the name of the configuration, KIWI's.
func (p *plan) configFile() string { return p.request.BaseName + ".xenconfig" }

// String describes the guest for people.
func (p *plan) String() string {
	how := "the kernel beside the image"
	switch p.XenLoader {
	case loaderHVM:
		how = "the boot loader on the disk"
	case loaderPygrub:
		how = "pygrub, a program of the host"
	case loaderPVGrub:
		how = "GRUB beside the image"
	}
	return fmt.Sprintf("Xen: %s with %d MiB, started by %s: %s\n", kindText(p.kind), p.memory(), how, p.configFile())
}

// findKernel finds the kernel and settles what kind of guest it runs in.
func (p *plan) findKernel() error {
	tree := p.request.Tree
	kernels := initrd.FindKernels(tree)
	if len(kernels) == 0 {
		return &image.TreeError{Missing: "kernel (/boot/vmlinuz-VERSION)", Need: need, Hint: xen.KernelPackage(tree)}
	}
	p.kernel = kernels[len(kernels)-1]
	var err error
	if p.settings, err = xen.ReadKernel(tree, p.kernel.Version); err != nil {
		return err
	}
	settings := p.settings
	if !settings.Known {
		p.notes = append(p.notes, fmt.Sprintf("nothing in the root tree says whether the kernel %s runs in one: there is no /boot/config-%[1]s", p.kernel.Version))
		p.kind = cmp.Or(p.kind, xen.PVH)
		return nil
	}
	preferred := []string{xen.PVH, xen.PV}
	if p.XenLoader != "" { // what these loaders were made for
		preferred = []string{xen.PV, xen.PVH}
	}
	unpacked := p.XenLoader != loaderPVGrub || settings.Packing == "" || slices.Contains(strings.Fields(pvgrubUnpacks), settings.Packing)
	fits := map[string]bool{xen.PV: settings.PV && unpacked, xen.PVH: settings.PVH}
	if p.kind == "" {
		if i := slices.IndexFunc(preferred, func(kind string) bool { return fits[kind] }); i >= 0 {
			p.kind = preferred[i]
		}
	}
	if fits[p.kind] {
		return nil
	}
	missing, hint := "CONFIG_XEN_PV or CONFIG_XEN_PVH", xen.KernelPackage(tree)
	switch {
	case p.kind != xen.PVH && settings.PV && !unpacked:
		return &image.TreeError{
			Missing: fmt.Sprintf("kernel that GRUB in a paravirtual guest can unpack (%s is compressed by %s)", p.kernel.Version, settings.Packing), Need: `xen_loader="pvgrub"`,
			Hint: `write <vmconfig-entry>type = "pvh"</vmconfig-entry>, or xen_loader="pygrub", or use a kernel compressed by gzip, xz or lzo`,
		}
	case p.kind == xen.PV && settings.PVH:
		missing, hint = "CONFIG_XEN_PV", `write <vmconfig-entry>type = "pvh"</vmconfig-entry>, or `+hint
	case p.kind == xen.PVH && settings.PV:
		missing, hint = "CONFIG_XEN_PVH", `write <vmconfig-entry>type = "pv"</vmconfig-entry>, or `+hint
	}
	return &image.TreeError{Missing: fmt.Sprintf("kernel with %s (%s lacks it)", missing, p.kernel.Version), Need: cmp.Or(kindText(p.kind), need), Hint: hint}
}

// withConsole adds Xen's console to a kernel's command line that names none of it.
func withConsole(cmdline string) string {
	for word := range strings.FieldsSeq(cmdline) {
		if strings.HasPrefix(word, "console=hvc") || strings.HasPrefix(word, "console=xvc") {
			return cmdline
		}
	}
	return strings.TrimSpace(cmdline + " console=hvc0")
}

// hasRoot reports whether a kernel's command line names the root device.
func hasRoot(words []string) bool {
	return slices.ContainsFunc(words, func(w string) bool { return strings.HasPrefix(w, "root=") })
}

// disk plans a guest whose image is a disk.
func (p *plan) disk() error {
	r, t := p.request, &p.request.Description.Type
	start, err := disk.StartOf(r)
	if err != nil {
		return err
	}
	format := map[string]string{"raw": "raw", "qcow2": "qcow2", "vhd": "vhd", "vhd-fixed": "vhd"}[start.Format]
	if format == "" {
		return t.Errorf("format", "leave it out for a raw disk, or use qcow2 or vhd", "Xen reads no disks in the format %s", start.Format)
	}
	extension := map[string]string{"vhd-fixed": "vhdfixed"}[start.Format]
	p.config.Disks = append(p.config.Disks, xen.Disk(format, p.device, r.BaseName+"."+cmp.Or(extension, start.Format)))
	if p.XenLoader != "" && !start.Menu {
		return p.Errorf("xen_loader", "leave it out", "the disk has no boot loader, as the description wants it, and so nothing for %s to find", p.XenLoader)
	}
	switch p.XenLoader {
	case "":
		p.direct(start.Cmdline)
	case loaderHVM:
		p.hvm(start.BIOS)
	case loaderPygrub:
		p.pygrub("")
		return p.readable(start.Filesystem, pygrubReads)
	case loaderPVGrub:
		p.menuDevice, p.menuDir = start.Device, start.Prefix
		return p.readable(start.Filesystem, grubReads)
	}
	return nil
}

// pvgrubUnpacks are the kernels that GRUB can unpack. In a paravirtual guest it must: in others they unpack themselves.
const pvgrubUnpacks = "gzip xz lzo"

// What loaders read: pygrub what libxenfsimage has and has kept up with, GRUB what its core image is made with.
const (
	pygrubReads = "ext2 ext3 ext4"
	grubReads   = "ext2 ext3 ext4 xfs btrfs squashfs"
)

// readable refuses a file system that the loader does not read.
func (p *plan) readable(filesystem, known string) error {
	if slices.Contains(strings.Fields(known), filesystem) {
		return nil
	}
	hint := "leave xen_loader out, or use one of " + known
	if p.request.Description.Type.Image == "oem" {
		hint += `, for /boot alone with bootpartition="true" and bootfilesystem="ext4"`
	}
	return p.Errorf("xen_loader", hint, "%s can't read the file system %s that has /boot", p.XenLoader, filesystem)
}

// hvm plans a machine with firmware.
func (p *plan) hvm(bios bool) {
	p.config.Serial = "pty"
	if !bios {
		p.config.BIOS = "ovmf"
	}
	if p.DVD != nil {
		p.config.Disks = append(p.config.Disks, "devtype=cdrom,vdev=hdc,access=ro,target=")
	}
}

// direct lets the host load the kernel from beside the image.
func (p *plan) direct(cmdline string) {
	p.config.Cmdline = withConsole(cmdline)
	if p.request.Tree == nil {
		return
	}
	p.config.Kernel, p.kernelFrom = p.request.BaseName+"-"+p.kernel.Version+".kernel", p.kernel.Vmlinuz
	if p.kernel.Initrd != "" {
		p.config.Ramdisk, p.initrdFrom = p.request.BaseName+".initrd", p.kernel.Initrd
	}
}

// pygrub lets the host look for the kernel in the image. What it is told is added to what the menu says.
func (p *plan) pygrub(cmdline string) {
	p.config.Bootloader = "pygrub"
	if p.kind == xen.PVH {
		cmdline = withConsole(cmdline) // a paravirtual guest has it by itself
	}
	p.config.Cmdline = cmdline
}

// system plans a guest that is a kernel-initrd-system: its files are in the archive.
func (p *plan) system() error {
	t := &p.request.Description.Type
	switch {
	case p.XenLoader != "":
		return p.Errorf("xen_loader", "leave it out", "a kernel-initrd-system brings its kernel, and %s would look for another", p.XenLoader)
	case t.Compressed && t.Filesystem != "":
		return t.Errorf("compressed", "leave it out", "a guest of Xen can't use a file system that is compressed as a whole")
	case p.request.Tree == nil:
		return nil
	}
	start, err := kis.StartOf(p.request)
	if err != nil {
		return err
	}
	p.config.Kernel, p.config.Ramdisk = start.Kernel, start.Initrd
	words := strings.Fields(start.Cmdline)
	if start.System != "" {
		p.config.Disks = append(p.config.Disks, xen.Disk("raw", p.partition(), start.System))
		if !hasRoot(words) { // the file system has no identifier
			words = append([]string{"root=/dev/" + p.partition()}, words...)
		}
	}
	p.config.Cmdline = withConsole(strings.Join(words, " "))
	return nil
}

// partition is the device of a file system without a partition table around it.
func (p *plan) partition() string {
	if last := p.device[len(p.device)-1]; last >= '0' && last <= '9' {
		return p.device
	}
	return p.device + "1"
}

// filesystem plans a guest whose image is a file system.
func (p *plan) filesystem() error {
	r, t := p.request, &p.request.Description.Type
	if p.XenLoader == loaderHVM {
		return p.Errorf("xen_loader", `build a disk (image="oem"), or leave it out`, "hvmloader starts disks, and the image is a file system")
	}
	p.config.Disks = append(p.config.Disks, xen.Disk("raw", p.partition(), r.BaseName+"."+t.Image))
	words := strings.Fields(t.KernelCmdline)
	if !hasRoot(words) {
		words = append([]string{"root=/dev/" + p.partition()}, words...)
	}
	if !slices.Contains(words, "ro") && !slices.Contains(words, "rw") {
		mode := "rw" // no /etc/fstab says so
		if t.Image == "squashfs" || t.Image == "erofs" || t.Image == "cramfs" {
			mode = "ro"
		}
		words = append(words, mode)
	}
	cmdline := withConsole(strings.Join(words, " "))
	switch p.XenLoader {
	case "":
		p.direct(cmdline)
		if r.Tree != nil && p.kernel.Initrd == "" && !p.settings.Disks {
			return image.Placed(p.Pos, &image.TreeError{
				Missing: "initial RAM disk of kernel " + p.kernel.Version, Need: need + " with its disk driver in a module", Hint: "add the package dracut or initramfs-tools",
			})
		}
		return nil
	case loaderPygrub:
		p.pygrub("")
		p.writeMenu(cmdline)
		return p.readable(t.Image, pygrubReads)
	}
	p.writeMenu(cmdline)
	if t.Image == "squashfs" && slices.Contains([]string{"", "lz4", "zstd"}, t.SquashfsCompression) {
		return t.Errorf("squashfscompression", "use gzip, lzo or xz", "GRUB can't read a squashfs that is compressed by %s", cmp.Or(t.SquashfsCompression, "zstd, as it is by default"))
	}
	return p.readable(t.Image, grubReads)
}

// writeMenu makes GRUB's menu for a file system.
func (p *plan) writeMenu(cmdline string) {
	tree := p.request.Tree
	if tree == nil {
		return
	}
	d := p.request.Description
	p.menuDir = "/" + grub.Directory(tree)
	p.menuDevice = grub.Device{File: p.menuDir + "/grub.cfg"}
	config := grub.Config{
		Title: cmp.Or(d.DisplayName, d.Name), Device: p.menuDevice, Prefix: p.menuDir, Cmdline: cmdline, Timeout: 1, Output: []string{"console"}, Input: []string{"console"},
	}
	for _, k := range slices.Backward(initrd.FindKernels(tree)) {
		kernel := grub.Kernel{Version: k.Version, Image: "/" + k.Vmlinuz}
		if k.Initrd != "" {
			kernel.Initrd = "/" + k.Initrd
		}
		config.Kernels = append(config.Kernels, kernel)
	}
	p.menu = config.String()
}

// pvgrubModules finds what the guest's own GRUB is made of.
func (p *plan) pvgrubModules() (err error) {
	if p.XenLoader != loaderPVGrub || p.request.Tree == nil {
		return nil
	}
	platform := grub.PlatformXenPV
	if p.kind == xen.PVH {
		platform = grub.PlatformXenPVH
	}
	if p.loader, err = grub.Find(p.request.Tree, platform); err != nil {
		return p.Errorf("xen_loader", "", "%v", err)
	}
	p.config.Kernel = p.request.BaseName + ".pvgrub"
	_, err = grub.FindMkimage()
	return err
}
