package imagetypes

import (
	"fmt"

	"github.com/imgbuild/imgbuild/description"
	"github.com/imgbuild/imgbuild/layers"
	"github.com/imgbuild/imgbuild/rootfs/inspect"
)

// ArchitectureError says that the root tree's programs are for another architecture than the image is to be for. Both are named as uname -m does.
type ArchitectureError struct{ Tree, Image string }

// Error implements error.
func (e *ArchitectureError) Error() string {
	return fmt.Sprintf("the root tree has programs for %s, and the image is to be for %s: say --target-arch %s, or take a root tree for %s", e.Tree, e.Image, e.Tree, e.Image)
}

// checkArchitecture refuses a tree for another architecture: its boot loader, its name and what it says of itself would all be wrong. Programs of 32 bits run on a
// processor of the same family with 64, and a tree without programs fits everywhere.
func (o CreateOptions) checkArchitecture(tree *layers.Tree, d *description.Image) error {
	if o.Mixed {
		return nil
	}
	machine, err := inspect.Architecture(tree)
	if err != nil {
		return fmt.Errorf("finding out the root tree's architecture: %w", err)
	}
	have, _ := inspect.OCIArchitecture(machine)
	want, _ := inspect.OCIArchitecture(d.Arch)
	smaller := map[string]string{"amd64": "386", "arm64": "arm"}
	if machine == "" || d.Arch == "" || have == want || have == smaller[want] {
		return nil
	}
	return &ArchitectureError{Tree: machine, Image: d.Arch}
}
