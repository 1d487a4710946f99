// Package layerstest gives tests real root trees.
package layerstest

import (
	"io"
	"os"
	"testing"

	"github.com/imgbuild/imgbuild/internal/testenv"
	"github.com/imgbuild/imgbuild/layers"
)

// The environment variables that name tar archives with Debian root trees. The project's Makefile makes them.
const (
	// Debian has what a container has.
	Debian = "IMGBUILD_TEST_DEBIAN"
	// VM can boot: it has systemd, a kernel with initrd, GRUB's modules, and root's password "linux".
	VM = "IMGBUILD_TEST_VM_TAR"
	// Live has what VM has, and for its initial RAM disk dracut with the modules of live systems.
	Live = "IMGBUILD_TEST_LIVE_TAR"
	// Xen has what VM has, but for GRUB's signed programs, and the Xen hypervisor with its tools.
	Xen = "IMGBUILD_TEST_XEN_TAR"
)

// Tree returns the tree of the archive that a variable names, or one of several archives, of which a later one wins. The test is skipped without them.
func Tree(t testing.TB, variables ...string) *layers.Tree {
	t.Helper()
	var tree *layers.Tree
	for _, variable := range variables {
		name := os.Getenv(variable)
		if name == "" {
			testenv.Missing(t, "%s names no archive with a root tree", variable)
		}
		tree = onto(t, tree, testenv.NeedFile(t, name))
	}
	return tree
}

// Open returns the tree of a tar archive. Its contents may be read until the test ends.
func Open(t testing.TB, name string) *layers.Tree {
	t.Helper()
	return onto(t, nil, name)
}

// onto puts the tree of a tar archive over another, which may be nil.
func onto(t testing.TB, base *layers.Tree, name string) *layers.Tree {
	t.Helper()
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	info, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	layer, err := layers.ReadLayer(t.Context(), io.NewSectionReader(f, 0, info.Size()), layers.ReadOptions{})
	if err != nil {
		t.Fatal(err)
	}
	tree, err := layers.Apply(base, layer)
	if err != nil {
		t.Fatal(err)
	}
	return tree
}
