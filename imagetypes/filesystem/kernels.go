package filesystem

import (
	"fmt"
	"os"

	"github.com/imgbuild/imgbuild/internal/command"
	"github.com/imgbuild/imgbuild/internal/helperkernel"
	"github.com/imgbuild/imgbuild/layers"
)

// kernels returns the kernels that a helper kernel in QEMU may use: those of this machine and, where it has none, those of the tree.
func kernels(tree *layers.Tree) []helperkernel.Kernel {
	if own := helperkernel.KernelsOf(os.DirFS("/")); len(own) > 0 {
		return own
	}
	return helperkernel.KernelsOf(tree.FS("."))
}

// kernelFor refuses a machine without a helper kernel that has a file system: user-mode Linux has all of them, and QEMU what its kernel has.
func kernelFor(kind string, all []helperkernel.Kernel) error {
	way, err := helperkernel.Available(all)
	if err != nil || way != helperkernel.QEMU {
		return err
	}
	has, err := all[0].Has(kind)
	if err != nil {
		return err
	}
	if has {
		return nil
	}
	reasons := []string{fmt.Sprintf("the kernel /%s, which QEMU would start, has no %s", all[0].Image, kind)}
	if _, missing := command.Find("linux.uml"); missing != nil {
		reasons = append(reasons, missing.Error())
	}
	return &helperkernel.UnavailableError{Reasons: reasons}
}
