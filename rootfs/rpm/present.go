package rpm

import (
	"fmt"
	"log/slog"
	"slices"

	"github.com/imgbuild/imgbuild/description"
	"github.com/imgbuild/imgbuild/layers"
)

// Present returns the names of those packages of a list that a tree has, by NAME or NAME.ARCH. The log is told of the others.
func Present(tree *layers.Tree, list []description.Package, log *slog.Logger) ([]string, error) {
	if len(list) == 0 {
		return nil, nil
	}
	installed, err := Installed(tree)
	if err != nil {
		return nil, fmt.Errorf("looking for packages to remove: %w", err)
	}
	var names []string
	for _, p := range list {
		if !slices.ContainsFunc(installed, func(i Package) bool { return i.Name == p.Name || i.Name+"."+i.Arch == p.Name }) {
			log.Warn("a package that is to be removed is not installed", "at", p.Pos.String(), "package", p.Name)
			continue
		}
		names = append(names, p.Name)
	}
	return names, nil
}
