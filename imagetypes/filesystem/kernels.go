package filesystem

import (
	"os"

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
