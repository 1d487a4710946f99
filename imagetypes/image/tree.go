package image

import (
	"fmt"
	"io/fs"
	"path"

	"github.com/imgbuild/imgbuild/layers"
)

// BuildFiles returns the entries of a root tree that serve its building alone, as patterns of [path.Match].
func BuildFiles() []string {
	return []string{"image", ".profile", ".kconfig", ".buildenv", "var/cache/kiwi"}
}

// WithoutBuildFiles returns the tree without what only served its building: the description's directory, KIWI's profile and function
// library, and what lies in /run and /tmp. Further entries to leave out are given as patterns of [path.Match]; a pattern that matches a
// directory takes all below it. KIWI leaves out the same.
func WithoutBuildFiles(t *layers.Tree, patterns ...string) (*layers.Tree, error) {
	return Without(t, append(append(BuildFiles(), "run/*", "tmp/*"), patterns...)...)
}

// Without returns the tree without the entries that a pattern of [path.Match] matches, and what lies below them.
func Without(t *layers.Tree, patterns ...string) (*layers.Tree, error) {
	all := make([]string, len(patterns))
	for i, p := range patterns {
		all[i] = layers.Clean(p)
		if _, err := path.Match(all[i], ""); err != nil {
			return nil, fmt.Errorf("leaving out %q: %w", p, err)
		}
	}
	var drop []string
	err := t.Walk(func(name string, n *layers.Node) error {
		for _, p := range all {
			if ok, _ := path.Match(p, name); ok {
				drop = append(drop, name)
				if n.IsDir() {
					return fs.SkipDir
				}
				return nil
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	if len(drop) == 0 {
		return t, nil
	}
	edit := t.Edit(layers.Timespec{})
	for _, name := range drop {
		if err := edit.Remove(name); err != nil {
			return nil, fmt.Errorf("leaving out /%s: %w", name, err)
		}
	}
	return edit.Tree(), nil
}
