package imagetypes

import (
	"errors"
	"fmt"
	"io/fs"
	"path"

	"go.yaml.in/yaml/v3"

	"github.com/imgbuild/imgbuild/imagetypes/image"
	"github.com/imgbuild/imgbuild/layers"
)

// excludeFile names what of a root tree does not belong into an image, as in KIWI: exclude: [PATH, ...].
const excludeFile = "image/exclude_files.yaml"

// maxExclude bounds it, in bytes.
const maxExclude = 1 << 20

// withoutExcluded returns a tree without what its exclude file names: paths from the root directory, or patterns of [path.Match].
func withoutExcluded(tree *layers.Tree) (*layers.Tree, error) {
	data, err := tree.ReadFile(excludeFile, maxExclude)
	if errors.Is(err, fs.ErrNotExist) {
		return tree, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading exclude_files.yaml of the description: %w", err)
	}
	var list struct {
		Exclude []string `yaml:"exclude"`
	}
	if err := yaml.Unmarshal(data, &list); err != nil {
		return nil, fmt.Errorf("reading exclude_files.yaml of the description: %w; write it as a list of paths: exclude: [usr/share/doc, ...]", err)
	}
	for _, name := range list.Exclude {
		// What the build itself needs goes away later.
		if clean := layers.Clean(name); clean == "." || clean == path.Dir(excludeFile) {
			return nil, fmt.Errorf("reading exclude_files.yaml of the description: %q can't be left out", name)
		}
	}
	return image.Without(tree, list.Exclude...)
}
