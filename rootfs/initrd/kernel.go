// Package initrd finds the kernels of a root tree and makes their initial RAM disks, with the tool that the tree itself has.
package initrd

import (
	"cmp"
	"path"
	"slices"
	"strings"

	"github.com/imgbuild/imgbuild/layers"
)

// Kernel is a kernel that a root tree can be booted with. Paths are as trees name them: without a leading slash.
type Kernel struct {
	Version string // as uname -r prints it
	Vmlinuz string // the kernel's file
	Initrd  string // its initial RAM disk; "" if there is none
	Modules string // the directory of its modules; "" if there is none
}

// kernelNames are how distributions name a kernel's file in /boot before its version.
func kernelNames() []string { return []string{"vmlinuz-", "vmlinux-", "Image-", "image-", "zImage-"} }

// initrdNames are how distributions name the initial RAM disk of a version.
func initrdNames(version string) []string {
	return []string{"initrd.img-" + version, "initrd-" + version, "initramfs-" + version + ".img", "initrd-" + version + ".img", "initramfs-" + version}
}

// FindKernels returns the kernels of a tree, the newest version last.
func FindKernels(tree *layers.Tree) []Kernel {
	found := map[string]Kernel{}
	if boot, dir, err := tree.Resolve("boot"); err == nil && dir.IsDir() {
		for _, prefix := range kernelNames() {
			for _, name := range dir.Names() {
				version, ok := strings.CutPrefix(name, prefix)
				if !ok || version == "" || !isFile(tree, path.Join(boot, name)) || isNoKernel(version) {
					continue
				}
				if _, twice := found[version]; !twice {
					found[version] = Kernel{Version: version, Vmlinuz: path.Join(boot, name)}
				}
			}
		}
	}
	for _, modules := range []string{"lib/modules", "usr/lib/modules"} {
		at, dir, err := tree.Resolve(modules)
		if err != nil || !dir.IsDir() {
			continue
		}
		for _, version := range dir.Names() {
			k, ok := found[version]
			if file := path.Join(at, version, "vmlinuz"); !ok && isFile(tree, file) {
				k, ok = Kernel{Version: version, Vmlinuz: file}, true
			}
			if ok && dir.Child(version).IsDir() {
				k.Modules = path.Join(at, version)
				found[version] = k
			}
		}
	}
	findFlavors(tree, found)
	kernels := make([]Kernel, 0, len(found))
	for _, k := range found {
		k.Initrd = findInitrd(tree, k)
		kernels = append(kernels, k)
	}
	slices.SortFunc(kernels, func(a, b Kernel) int { return CompareVersions(a.Version, b.Version) })
	return kernels
}

// findFlavors finds Alpine's kernels: their files in /boot have the last part of the version alone in their names, such as vmlinuz-virt.
func findFlavors(tree *layers.Tree, found map[string]Kernel) {
	at, dir, err := tree.Resolve("lib/modules")
	if err != nil || !dir.IsDir() {
		return
	}
	for _, version := range dir.Names() {
		flavor := alpineFlavor(version)
		boot, _, err := tree.Resolve("boot")
		if _, known := found[version]; known || err != nil || flavor == version || !isFile(tree, "boot/vmlinuz-"+flavor) || !dir.Child(version).IsDir() {
			continue
		}
		found[version] = Kernel{Version: version, Vmlinuz: path.Join(boot, "vmlinuz-"+flavor), Modules: path.Join(at, version)}
	}
}

// isNoKernel tells a check sum or a backup beside a kernel from a kernel.
func isNoKernel(version string) bool {
	for _, suffix := range []string{".hmac", ".gz", ".old", ".dpkg-bak", ".sig", ".efi.signed"} {
		if strings.HasSuffix(version, suffix) {
			return true
		}
	}
	return version[0] < '0' || version[0] > '9'
}

func findInitrd(tree *layers.Tree, k Kernel) string {
	candidates := initrdNames(k.Version)
	for i := range candidates {
		candidates[i] = "boot/" + candidates[i]
	}
	if flavor := alpineFlavor(k.Version); path.Base(k.Vmlinuz) == "vmlinuz-"+flavor {
		candidates = append(candidates, "boot/initramfs-"+flavor)
	}
	candidates = append(candidates, path.Join(path.Dir(k.Vmlinuz), "initrd"))
	if !strings.HasSuffix(path.Dir(k.Vmlinuz), "/"+k.Version) {
		candidates = candidates[:len(candidates)-1] // a directory that several versions share
	}
	for _, name := range candidates {
		if isFile(tree, name) {
			resolved, _, err := tree.ResolveParent(name)
			if err == nil {
				return resolved
			}
		}
	}
	return ""
}

// isFile reports whether there is a file with content, symbolic links followed.
func isFile(tree *layers.Tree, name string) bool {
	_, node, err := tree.Resolve(name)
	return err == nil && node.IsRegular() && node.Size > 0
}

// CompareVersions orders versions of kernels: runs of digits by their value, everything else by its characters.
func CompareVersions(a, b string) int {
	for a != "" && b != "" {
		na, nb := digits(a), digits(b)
		if na > 0 && nb > 0 {
			va, vb := strings.TrimLeft(a[:na], "0"), strings.TrimLeft(b[:nb], "0")
			if c := cmp.Or(cmp.Compare(len(va), len(vb)), cmp.Compare(va, vb)); c != 0 {
				return c
			}
			a, b = a[na:], b[nb:]
			continue
		}
		if a[0] != b[0] {
			return cmp.Compare(a[0], b[0])
		}
		a, b = a[1:], b[1:]
	}
	return cmp.Compare(len(a), len(b))
}

func digits(s string) int {
	n := 0
	for n < len(s) && s[n] >= '0' && s[n] <= '9' {
		n++
	}
	return n
}

// alpineFlavor is what Alpine names the files in /boot after: the last part of a version such as 6.6.31-0-virt.
func alpineFlavor(version string) string { return version[strings.LastIndex(version, "-")+1:] }
