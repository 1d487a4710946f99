package image

import (
	"fmt"
	"io"
	"os"

	"github.com/imgbuild/imgbuild/layers"
)

// Extract copies a file of a tree to a new file of this machine, which everybody may read.
func Extract(tree *layers.Tree, from, to string) error {
	_, node, err := tree.Resolve(from)
	if err != nil {
		return err
	}
	data, err := node.Open()
	if err != nil {
		return err
	}
	defer data.Close()
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, data)
	if closing := out.Close(); err == nil {
		err = closing
	}
	if err != nil {
		return fmt.Errorf("copying /%s: %w", from, err)
	}
	return nil
}
