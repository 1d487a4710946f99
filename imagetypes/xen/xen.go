// Package xen knows what an image needs to run under the Xen hypervisor, or to bring it: where the hypervisor lies in a root tree, which kernels fit, and how a
// guest's configuration for xl is written.
package xen

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/imgbuild/imgbuild/description"
	"github.com/imgbuild/imgbuild/imagetypes/image"
	"github.com/imgbuild/imgbuild/layers"
	"github.com/imgbuild/imgbuild/rootfs/initrd"
	"github.com/imgbuild/imgbuild/rootfs/inspect"
)

// FindHost finds what a host starts: the hypervisor, and those of the tree's kernels that run on it as the first machine. A kernel whose settings nobody knows is taken
// for one. The error names the place in the description that asks for a host, and wraps an *[image.TreeError] that names the package of what is missing.
func FindHost(t *description.Type, tree *layers.Tree, kernels []initrd.Kernel) (hypervisor string, fit []initrd.Kernel, err error) {
	hypervisor, err = findHypervisor(tree)
	if err == nil {
		fit, err = dom0Kernels(tree, kernels)
	}
	return hypervisor, fit, image.Placed(t.At("xen_server"), err)
}

// findHypervisor returns the path of the newest hypervisor in the tree's /boot: xen-4.17-amd64.gz on Debian, xen-4.17.2.gz or xen.gz elsewhere.
func findHypervisor(tree *layers.Tree) (string, error) {
	missing := &image.TreeError{Missing: "Xen hypervisor (/boot/xen*.gz)", Need: `xen_server="true"`, Hint: "add " + hypervisorPackage(tree) + " to the description"}
	boot, dir, err := tree.Resolve("boot")
	if err != nil || !dir.IsDir() {
		return "", missing
	}
	var names []string
	for _, name := range dir.Names() {
		if _, node, err := tree.Resolve(path.Join(boot, name)); err == nil && node.IsRegular() && strings.HasPrefix(name, "xen") && strings.HasSuffix(name, ".gz") {
			names = append(names, name)
		}
	}
	if len(names) == 0 {
		return "", missing
	}
	return path.Join(boot, slices.MaxFunc(names, initrd.CompareVersions)), nil
}

// hypervisorPackage names the package that brings the hypervisor.
func hypervisorPackage(tree *layers.Tree) string {
	switch distribution(tree) {
	case "debian":
		return "the package xen-system-amd64"
	case "suse":
		return "the packages xen and xen-tools"
	case "fedora":
		return "the package xen"
	case "alpine":
		return "the packages xen and xen-hypervisor"
	}
	return "its package: xen-system-amd64 (Debian), xen (Fedora, openSUSE), xen-hypervisor (Alpine)"
}

// distribution returns the family of the tree's distribution, or "".
func distribution(tree *layers.Tree) string {
	fields, err := inspect.OSRelease(tree)
	if err != nil {
		return ""
	}
	words := strings.Fields(fields["ID"] + " " + fields["ID_LIKE"])
	for _, family := range []string{"debian", "suse", "fedora", "alpine"} {
		if slices.ContainsFunc(words, func(w string) bool {
			return w == family || family == "suse" && (strings.HasPrefix(w, "opensuse") || w == "sles")
		}) {
			return family
		}
	}
	return ""
}

// Kernel is what is known of a kernel's settings.
type Kernel struct {
	Version string
	Known   bool // false: the tree does not say how the kernel was made, and nothing below is true
	PV      bool // runs in a paravirtual guest
	PVH     bool // runs in a PVH guest
	Dom0    bool // runs as the first machine of a Xen host
	Disks   bool // finds a guest's disks without a module
	// Packing is how the kernel is compressed, in small letters: gzip, xz, lzo, lz4, zstd, bzip2 or lzma.
	Packing string
}

// maxConfig bounds the file with a kernel's settings, in bytes.
const maxConfig = 4 << 20

// ReadKernel reads a kernel's settings from where distributions keep them: /boot/config-VERSION or /lib/modules/VERSION/config.
func ReadKernel(tree *layers.Tree, version string) (Kernel, error) {
	k := Kernel{Version: version}
	for _, name := range []string{"boot/config-" + version, "lib/modules/" + version + "/config", "usr/lib/modules/" + version + "/config"} {
		data, err := tree.ReadFile(name, maxConfig)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return k, fmt.Errorf("reading the settings of the kernel %s: %w", version, err)
		}
		k.Known = true
		for line := range strings.Lines(string(data)) {
			line = strings.TrimSpace(line)
			switch line {
			case "CONFIG_XEN_PV=y":
				k.PV = true
			case "CONFIG_XEN_PVH=y", "CONFIG_PVH=y":
				k.PVH = true
			case "CONFIG_XEN_DOM0=y":
				k.Dom0 = true
			case "CONFIG_XEN_BLKDEV_FRONTEND=y":
				k.Disks = true
			case "CONFIG_XEN=y": // on arm64 this is all there is
				if strings.Contains(string(data), "CONFIG_ARM64=y") {
					k.PVH, k.Dom0 = true, true
				}
			case "CONFIG_KERNEL_GZIP=y", "CONFIG_KERNEL_XZ=y", "CONFIG_KERNEL_LZO=y", "CONFIG_KERNEL_LZ4=y", "CONFIG_KERNEL_ZSTD=y", "CONFIG_KERNEL_BZIP2=y", "CONFIG_KERNEL_LZMA=y":
				k.Packing = strings.ToLower(strings.TrimSuffix(strings.TrimPrefix(line, "CONFIG_KERNEL_"), "=y"))
			}
		}
		return k, nil
	}
	return k, nil
}

// KernelPackage says which package brings a kernel for a guest or a host.
func KernelPackage(tree *layers.Tree) string {
	switch distribution(tree) {
	case "debian":
		return "add the package linux-image-amd64 to the description"
	case "suse":
		return "add the package kernel-default to the description"
	case "fedora":
		return "add the package kernel to the description"
	case "alpine":
		return "add the package linux-lts to the description"
	}
	return "add the distribution's general kernel to the description: linux-image-amd64 (Debian), kernel (Fedora) or kernel-default (openSUSE)"
}

// dom0Kernels returns those kernels that can be the first machine of a Xen host, in the same order. It is an error if there are kernels and none of them fits.
func dom0Kernels(tree *layers.Tree, kernels []initrd.Kernel) ([]initrd.Kernel, error) {
	var fit []initrd.Kernel
	for _, k := range kernels {
		settings, err := ReadKernel(tree, k.Version)
		if err != nil {
			return nil, err
		}
		if settings.Dom0 || !settings.Known {
			fit = append(fit, k)
		}
	}
	if len(fit) == 0 && len(kernels) > 0 {
		newest := kernels[len(kernels)-1].Version
		return nil, &image.TreeError{Missing: "kernel with CONFIG_XEN_DOM0 (that of " + newest + " is not set)", Need: `xen_server="true"`, Hint: KernelPackage(tree)}
	}
	return fit, nil
}

// hostConsole moves the consoles of a host. Under Xen the serial ports are the hypervisor's: what the kernel's command line says of them becomes the
// hypervisor's, and the kernel's console is the hypervisor's own, hvc0.
func hostConsole(cmdline string) (kernel, hypervisor string) {
	var words, xen, consoles []string
	moved := false
	for _, word := range strings.Fields(cmdline) {
		port, ok := strings.CutPrefix(word, "console=ttyS")
		if !ok || port == "" || port[0] < '0' || port[0] > '1' {
			words = append(words, word)
			continue
		}
		com := "com" + string(port[0]+1)
		speed := "115200"
		if _, options, found := strings.Cut(port, ","); found {
			if digits := strings.TrimRight(options, "abcdefghijklmnopqrstuvwxyz0123456789"); digits == "" {
				speed = leadingDigits(options, speed)
			}
		}
		xen = append(xen, com+"="+speed+",8n1")
		consoles = append(consoles, com)
		if !moved {
			words = append(words, "console=hvc0")
			moved = true
		}
	}
	if len(consoles) > 0 {
		xen = append(xen, "console="+strings.Join(consoles, ",")+",vga")
	}
	return strings.Join(words, " "), strings.Join(xen, " ")
}

// leadingDigits returns the number that s begins with, or other.
func leadingDigits(s, other string) string {
	n := 0
	for n < len(s) && s[n] >= '0' && s[n] <= '9' {
		n++
	}
	if n == 0 {
		return other
	}
	return s[:n]
}
