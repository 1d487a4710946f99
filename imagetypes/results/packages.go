package results

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/imgbuild/imgbuild/imagetypes/image"
	"github.com/imgbuild/imgbuild/layers"
	"github.com/imgbuild/imgbuild/rootfs/dpkg"
)

// WritePackageLists writes what is installed in the tree into dir: base.packages, base.changes and base.verified, in KIWI's form. A tree
// without a package database that can be read gives none of them.
func WritePackageLists(ctx context.Context, tree *layers.Tree, dir, base string, log *slog.Logger) ([]image.Artifact, error) {
	if there, _ := dpkg.HasDatabase(tree); !there {
		log.Info("no lists of packages are written: the root tree has no package database that can be read")
		return nil, nil
	}
	packages, err := dpkg.Installed(tree)
	if err != nil {
		return nil, fmt.Errorf("listing packages: %w", err)
	}
	var list []image.Artifact
	for _, part := range []struct {
		suffix, key string
		write       func(io.Writer) error
	}{
		{".packages", image.KeyPackages, func(w io.Writer) error { return dpkg.WritePackages(w, packages) }},
		{".changes", image.KeyChanges, func(w io.Writer) error { return dpkg.WriteChanges(ctx, w, tree, packages) }},
		{".verified", image.KeyVerified, func(w io.Writer) error { return dpkg.WriteVerified(ctx, w, tree, packages) }},
	} {
		name := base + part.suffix
		if err := writeFile(filepath.Join(dir, name), part.write); err != nil {
			return nil, fmt.Errorf("writing %s: %w", name, err)
		}
		list = append(list, image.Artifact{Key: part.key, File: name, Compress: part.key == image.KeyChanges, UseForBundle: true})
	}
	return list, nil
}

func writeFile(name string, write func(io.Writer) error) error {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	err = write(f)
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	return err
}
