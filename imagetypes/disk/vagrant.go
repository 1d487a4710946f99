package disk

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/klauspost/compress/gzip"

	"github.com/imgbuild/imgbuild/description"
	"github.com/imgbuild/imgbuild/imagetypes/image"
	"github.com/imgbuild/imgbuild/rootfs/files"
)

// maxVagrantfile bounds a Vagrantfile of the description, in bytes.
const maxVagrantfile = 1 << 20

// writeBox packs a box for Vagrant: https://developer.hashicorp.com/vagrant/docs/boxes/format, and for libvirt the page example_box of vagrant-libvirt.
func (d *design) writeBox(ctx context.Context, r *image.Request, box *description.VagrantConfig, disk, name string) error {
	const gib = 1 << 30
	metadata := map[string]any{"provider": box.Provider}
	inside := "box.img"
	var ovf []packedFile
	if box.Provider == providerVirtualBox {
		inside = "box.vmdk"
		info, err := os.Stat(disk)
		if err != nil {
			return err
		}
		ovf = []packedFile{{"box.ovf", d.ovf(r.Description.Name, ovfMachine{Family: "virtualbox-2.2", File: inside, Size: info.Size()}), ""}}
	} else {
		metadata["format"], metadata["virtual_size"] = "qcow2", max(int64(box.VirtualSize), (d.table.DiskSize+gib-1)/gib)
	}
	vagrantfile, err := d.vagrantfile(r, box)
	if err != nil {
		return err
	}
	info := map[string]string{"name": cmp.Or(box.BoxName, r.Description.Name), "version": r.Description.Version, "author": r.Description.Author, "description": r.Description.Specification}
	list := []packedFile{{"metadata.json", asJSON(metadata), ""}, {"info.json", asJSON(info), ""}, {"Vagrantfile", vagrantfile, ""}}
	list = append(append(list, ovf...), packedFile{inside, "", disk})
	return writeTarFile(filepath.Join(r.Dir, name), func(w io.Writer) error {
		// The disk is compressed already.
		gz, err := gzip.NewWriterLevel(w, gzip.BestSpeed)
		if err != nil {
			return err
		}
		if err := packTar(ctx, gz, d.ids.Epoch, list); err != nil {
			return err
		}
		return gz.Close()
	})
}

// asJSON encodes what always can be.
func asJSON(v any) string {
	data, _ := json.MarshalIndent(v, "", "  ") // maps of texts and numbers
	return string(data) + "\n"
}

// vagrantfile returns the Vagrantfile of a box: the description's own, or the least that the provider needs.
func (d *design) vagrantfile(r *image.Request, box *description.VagrantConfig) (string, error) {
	if name := box.EmbeddedVagrantfile; name != "" {
		f, err := files.Source{Dir: r.Description.Dir, FS: r.Description.FS}.Open(name)
		if err != nil {
			return "", box.Errorf("embedded_vagrantfile", "", "%v", err)
		}
		defer f.Close()
		data, err := io.ReadAll(io.LimitReader(f, maxVagrantfile))
		return string(data), err
	}
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	m := d.typ.Machine
	if m == nil {
		m = &description.Machine{}
	}
	line(`Vagrant.configure("2") do |config|`)
	if !box.GuestAdditionsPresent {
		line(`  config.vm.synced_folder ".", "/vagrant", type: "rsync"`)
	}
	switch box.Provider {
	case providerVirtualBox:
		line(`  config.vm.base_mac = "080027%06X"`, d.ids.Uint32("vagrant card")&0xffffff)
		if d.efi && !d.bios {
			line(`  config.vm.provider :virtualbox do |machine|`)
			line(`    machine.customize ["modifyvm", :id, "--firmware", "efi"]`)
			line(`  end`)
		}
	default:
		line(`  config.vm.provider :libvirt do |machine|`)
		line(`    machine.driver = "kvm"`)
		if m.Memory > 0 {
			line(`    machine.memory = %d`, m.Memory)
		}
		if m.CPUs > 0 {
			line(`    machine.cpus = %d`, m.CPUs)
		}
		if d.efi && !d.bios && d.arch == "x86_64" {
			line(`    machine.machine_type = "q35"`)
			line(`    machine.loader = "/usr/share/OVMF/OVMF_CODE.fd"`)
		}
		line(`  end`)
	}
	line(`end`)
	return b.String(), nil
}

// checkBoxes refuses a disk that is larger than what a box says.
func (d *design) checkBoxes() error {
	for i := range d.results {
		if box := d.results[i].box; box != nil && d.table.DiskSize > int64(box.VirtualSize)<<30 {
			return box.Errorf("virtualsize", fmt.Sprintf("make it at least %d", (d.table.DiskSize+1<<30-1)>>30), "the disk has %d MiB, more than its %d GiB", d.table.DiskSize>>20, box.VirtualSize)
		}
	}
	return nil
}
