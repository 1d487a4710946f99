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
	"github.com/imgbuild/imgbuild/rootfs/database"
)

// PackageLists are the lists of what is installed in a tree: .packages, .changes and .verified, in KIWI's form. What they need of the tree's
// contents they take from who reads them anyway, see [PackageLists.Observe].
type PackageLists struct {
	database  *database.Database
	survey    *database.Survey
	noChanges bool
}

// NewPackageLists begins the lists of a tree. A tree without a package database that can be read gives nil, whose lists are none. Finish must be
// called. What the findings have of the tree's contents is taken from there; noChanges leaves .changes out.
func NewPackageLists(tree *layers.Tree, findings *database.Findings, log *slog.Logger, noChanges bool) (*PackageLists, error) {
	db, err := database.Open(tree)
	if err != nil {
		return nil, fmt.Errorf("listing packages: %w", err)
	}
	if db == nil {
		log.Info("no lists of packages are written: the root tree has no package database that can be read")
		return nil, nil
	}
	survey, err := db.NewSurvey(findings)
	if err != nil {
		return nil, fmt.Errorf("listing packages: %w", err)
	}
	return &PackageLists{db, survey, noChanges}, nil
}

// Observe is [image.Request.Observe].
func (l *PackageLists) Observe(n *layers.Node) io.Writer {
	if l == nil {
		return nil
	}
	return l.survey.Observe(n)
}

// ReadLarge is [database.Survey.ReadLarge].
func (l *PackageLists) ReadLarge(ctx context.Context) error {
	if l == nil {
		return nil
	}
	return l.survey.ReadLarge(ctx)
}

// Finish reads what was not observed. Nothing is observed any more then.
func (l *PackageLists) Finish(ctx context.Context) error {
	if l == nil {
		return nil
	}
	return l.survey.Finish(ctx)
}

// Write writes the lists into dir as base.packages, base.changes and base.verified. Finish comes first.
func (l *PackageLists) Write(ctx context.Context, dir, base string) ([]image.Artifact, error) {
	if l == nil {
		return nil, nil
	}
	var list []image.Artifact
	for _, part := range []struct {
		suffix, key string
		write       func(io.Writer) error
	}{
		{".packages", image.KeyPackages, l.database.WritePackages},
		{".changes", image.KeyChanges, func(w io.Writer) error { return l.survey.WriteChanges(ctx, w) }},
		{".verified", image.KeyVerified, l.survey.WriteVerified},
	} {
		if part.key == image.KeyChanges && l.noChanges {
			continue
		}
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
