package disk

import (
	"slices"
	"strings"

	"github.com/imgbuild/imgbuild/imagetypes/grub"
	"github.com/imgbuild/imgbuild/imagetypes/xen"
	"github.com/imgbuild/imgbuild/layers"
)

// host is a disk that starts Xen.
type host struct {
	hypervisor string   // path in the tree
	kernels    []string // versions of those that run on it
}

// findHypervisor looks for Xen and for kernels that run on it, if the description wants a host.
func (d *design) findHypervisor(tree *layers.Tree) error {
	if !d.typ.XenServer {
		return nil
	}
	if d.arch != "x86_64" {
		return d.typ.Errorf("xen_server", "leave it out", "hosts of Xen can be made for x86_64, and the image is for %s", d.arch)
	}
	hypervisor, kernels, err := xen.FindHost(d.typ, tree, d.kernels)
	if err != nil {
		return err
	}
	d.host = &host{hypervisor: hypervisor}
	for _, k := range kernels {
		d.host.kernels = append(d.host.kernels, k.Version)
	}
	return nil
}

// hypervisor is Xen as GRUB starts it. The tree is as it was before /etc/default/grub is written.
func (d *design) hypervisor(edit *layers.Editor) (h *grub.Hypervisor, always string) {
	cmdline, always, first := xen.HostOptions(edit, d.kernelCmdline())
	h = &grub.Hypervisor{Image: d.onDevice(d.host.hypervisor), Cmdline: first, KernelCmdline: cmdline}
	for _, k := range slices.Backward(d.kernels) {
		if slices.Contains(d.host.kernels, k.Version) {
			h.Kernels = append(h.Kernels, d.grubKernel(k))
		}
	}
	return h, always
}

// withoutRoot leaves out of a command line what the tools of GRUB add by themselves.
func withoutRoot(cmdline string) string {
	words := slices.DeleteFunc(strings.Fields(cmdline), func(w string) bool { return strings.HasPrefix(w, "root=") || w == "ro" || w == "rw" })
	return strings.Join(words, " ")
}
