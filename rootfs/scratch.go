package rootfs

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/imgbuild/imgbuild/internal/lockeddir"
)

// scratchPrefix begins the names of directories for temporary files.
const scratchPrefix = ".overlay-"

// newScratch makes a directory for temporary files in parent, which is made if it is missing, and removes those of killed runs.
func newScratch(parent string) (*lockeddir.Dir, error) {
	if err := os.MkdirAll(parent, 0o755); err != nil {
		return nil, fmt.Errorf("making a directory for temporary files: %w", err)
	}
	if err := lockeddir.RemoveStale(parent, scratchPrefix); err != nil {
		return nil, fmt.Errorf("removing temporary files of a killed run: %w", err)
	}
	dir, err := lockeddir.Make(parent, scratchPrefix)
	if err != nil {
		return nil, fmt.Errorf("making a directory for temporary files: %w", err)
	}
	return dir, nil
}

// scratchDir returns a directory for temporary files, beside the one that the tree is unpacked into.
func (o *overlay) scratchDir() (string, error) {
	if o.scratch == nil {
		s, err := newScratch(filepath.Dir(o.Dir))
		if err != nil {
			return "", err
		}
		o.scratch = s
	}
	return o.scratch.Name(), nil
}
