package disk

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/imgbuild/imgbuild/description"
	"github.com/imgbuild/imgbuild/imagetypes/image"
	"github.com/imgbuild/imgbuild/internal/diskformat"
	"github.com/imgbuild/imgbuild/internal/progress"
)

// product is a result that is made of the raw disk: the disk in a format, by itself or in a package for one kind of machine.
type product struct {
	suffix  string // of the file's name, after a dot
	format  diskformat.Format
	options []diskformat.Option
	ova     bool                       // in an Open Virtualization Archive
	box     *description.VagrantConfig // in a box for Vagrant; nil for none
}

// The formats of a description that are packages.
const (
	formatOVA     = "ova"
	formatVagrant = "vagrant"
)

// The providers of Vagrant.
const (
	providerLibvirt    = "libvirt"
	providerVirtualBox = "virtualbox"
)

// products decides on what is made of the raw disk.
func (s *settings) products() error {
	t := s.typ
	switch t.Format {
	case formatOVA:
		if m := t.Machine; m != nil && m.OVFType != "" && m.OVFType != "vmware" {
			return m.Errorf("ovftype", "use vmware, which VirtualBox reads too", "archives of the kind %s can't be made", m.OVFType)
		}
		if m := t.Machine; m != nil && m.Disk != nil && m.Disk.Mode != "" && m.Disk.Mode != streamOptimized {
			return m.Disk.Errorf("diskmode", "use "+streamOptimized+", or leave it out", "an ova has no disk of the kind %s", m.Disk.Mode)
		}
		return s.addProduct(product{suffix: formatOVA, ova: true}, "vmdk", diskformat.Option{Name: "subformat", Value: streamOptimized})
	case formatVagrant:
		if len(t.Vagrant) == 0 {
			return t.Errorf("format", "add <vagrantconfig provider=\"libvirt\" virtualsize=\"20\"/>", "format=\"vagrant\" needs a vagrantconfig")
		}
		for i := range t.Vagrant {
			if err := s.addBox(&t.Vagrant[i]); err != nil {
				return err
			}
		}
		return nil
	}
	name := cmp.Or(t.Format, "raw")
	f, err := diskformat.Lookup(name)
	if err != nil {
		return t.Errorf("format", "", "%v", err)
	}
	return s.addProduct(product{suffix: f.Extension}, name)
}

// streamOptimized is the kind of VMDK that packages hold.
const streamOptimized = "streamOptimized"

// addBox adds a box for Vagrant.
func (s *settings) addBox(box *description.VagrantConfig) error {
	p := product{suffix: "vagrant." + box.Provider + ".box", box: box}
	if slices.ContainsFunc(s.results, func(other product) bool { return other.suffix == p.suffix }) {
		return box.Errorf("provider", "leave one of them out", "there are two boxes for %s", box.Provider)
	}
	if box.Provider == providerVirtualBox {
		return s.addProduct(p, "vmdk", diskformat.Option{Name: "subformat", Value: streamOptimized})
	}
	return s.addProduct(p, "qcow2")
}

// addProduct adds a result with a disk of the given format.
func (s *settings) addProduct(p product, format string, fixed ...diskformat.Option) (err error) {
	if p.format, err = diskformat.Lookup(format); err != nil {
		return s.typ.Errorf("format", "", "%v", err)
	}
	p.options = append(s.formatOptions(format), fixed...)
	if err := p.format.Check(diskformat.Settings{Options: p.options, Tag: s.typ.VHDFixedTag}); err != nil {
		return s.typ.Errorf("formatoptions", "", "the format %s can't be made so: %v", format, err)
	}
	s.results = append(s.results, p)
	return nil
}

// make makes the product of the raw disk f, and what belongs to it.
func (p product) make(ctx context.Context, d *design, r *image.Request, f *os.File, scratch string) ([]image.Artifact, error) {
	name := r.BaseName + "." + p.suffix
	file := filepath.Join(r.Dir, name)
	if p.packed() {
		file = filepath.Join(scratch, name+".disk")
	}
	task := r.Progress.Start("writing "+name, 0, progress.Bytes)
	err := p.format.Write(ctx, f, d.table.DiskSize, file, diskformat.Settings{
		Options: p.options, Tag: d.typ.VHDFixedTag, License: d.typ.GCELicense, IDs: r.Repro, Progress: task, Log: r.Log,
	})
	task.Done(err)
	if err != nil {
		return nil, err
	}
	key := image.KeyDiskFormatImage
	if p.box != nil && p.box != d.results[0].box {
		key += "." + p.box.Provider
	}
	results := []image.Artifact{{Key: key, File: name, Compress: p.compress(r), UseForBundle: true}}
	switch {
	case p.ova:
		return results, d.writeOVA(ctx, r, file, name)
	case p.box != nil:
		return results, d.writeBox(ctx, r, p.box, file, name)
	case p.format.Name != "vmdk":
		return results, nil
	}
	extents, err := filepath.Glob(filepath.Join(r.Dir, globEscape(r.BaseName)+"-*.vmdk"))
	if err != nil {
		return nil, err
	}
	for _, extent := range extents { // some kinds of VMDK have their content in further files
		file := filepath.Base(extent)
		part := strings.TrimSuffix(strings.TrimPrefix(file, r.BaseName+"-"), ".vmdk")
		results = append(results, image.Artifact{Key: key + "." + part, File: file, Compress: p.compress(r), UseForBundle: true})
	}
	settings := r.BaseName + ".vmx"
	if err := os.WriteFile(filepath.Join(r.Dir, settings), []byte(d.vmx(r.Description.Name, name)), 0o644); err != nil {
		return nil, fmt.Errorf("writing the machine's settings: %w", err)
	}
	return append(results, image.Artifact{Key: image.KeyMachineSettings, File: settings, UseForBundle: true}), nil
}

// globEscape keeps what means something in a pattern of names.
func globEscape(name string) string {
	return strings.NewReplacer(`\`, `\\`, "*", `\*`, "?", `\?`, "[", `\[`).Replace(name)
}

// compress says whether a bundle compresses the file, for each format as in KIWI.
func (p product) compress(r *image.Request) bool {
	switch {
	case p.box != nil, p.format.Name == "gce":
		return false
	case p.ova, p.format.Name == "qcow2":
		return r.Compress(false)
	}
	return r.Compress(true)
}

// packed reports whether the disk lies in a package.
func (p product) packed() bool { return p.ova || p.box != nil }
