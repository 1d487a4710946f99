// Package appx builds the image types for the Windows Subsystem for Linux: appx, a package for Windows's store with the root tree and a launcher in it, and
// wsl, the root tree as an archive that "wsl --install --from-file" takes.
package appx

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/imgbuild/imgbuild/imagetypes/image"
	"github.com/imgbuild/imgbuild/internal/progress"
	"github.com/imgbuild/imgbuild/layers"
)

// Builder builds both. It implements [image.Builder].
type Builder struct{}

// rootArchive is what launchers look for in a package.
const rootArchive = "install.tar.gz"

// Check refuses what can't be built.
func (Builder) Check(ctx context.Context, r *image.Request) error {
	t := &r.Description.Type
	if architectures()[r.Description.Arch] == "" {
		return t.Errorf("image", "build for x86_64 or aarch64", "Windows runs no packages for %s", r.Description.Arch)
	}
	if t.Image == "wsl" {
		return nil
	}
	m, err := readMetadata(r.Description)
	if err != nil {
		return err
	}
	return checkSigning(ctx, r, m)
}

// Plan says what would be in the package.
func (Builder) Plan(_ context.Context, r *image.Request) (string, error) {
	r, err := r.Filled()
	if err != nil {
		return "", err
	}
	stats := r.Tree.Stats()
	if r.Description.Type.Image == "wsl" {
		return fmt.Sprintf("WSL: %s.wsl, %d entries, %s before compression\n", r.BaseName, stats.Entries, progress.FormatBytes(stats.Data)), nil
	}
	m, err := readMetadata(r.Description)
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("WSL: %s.appx, %d files of %s, and the root tree of %d entries, %s before compression\n", r.BaseName, len(m.files)+1,
		r.Description.Type.MetadataPath, stats.Entries, progress.FormatBytes(stats.Data)), nil
}

// Build writes BaseName.appx or BaseName.wsl.
func (Builder) Build(ctx context.Context, r *image.Request) ([]image.Artifact, error) {
	r, err := r.Filled()
	if err != nil {
		return nil, err
	}
	name := r.BaseName + "." + r.Description.Type.Image
	to := filepath.Join(r.Dir, name)
	if r.Description.Type.Image == "wsl" {
		err = buildWSL(ctx, r, to)
	} else {
		err = buildPackage(ctx, r, to)
	}
	if err != nil {
		return nil, fmt.Errorf("building %s: %w", name, err)
	}
	key := image.KeyContainer
	if r.Description.Type.Image == "wsl" {
		key = image.KeyRootArchive
	}
	return []image.Artifact{{Key: key, File: name, UseForBundle: true}}, nil
}

func buildWSL(ctx context.Context, r *image.Request, to string) error {
	tree, err := rootTree(r)
	if err != nil {
		return err
	}
	if tree, err = withDistributionFile(tree, r); err != nil {
		return err
	}
	return writeRoot(ctx, r, tree, to)
}

func buildPackage(ctx context.Context, r *image.Request, to string) error {
	m, err := readMetadata(r.Description)
	if err != nil {
		return err
	}
	scratch, remove, err := r.Scratch("appx")
	if err != nil {
		return err
	}
	defer remove()
	tree, err := rootTree(r)
	if err != nil {
		return err
	}
	root := filepath.Join(scratch, rootArchive)
	if err := writeRoot(ctx, r, tree, root); err != nil {
		return err
	}
	if err := m.pack(ctx, r, root, to, scratch); err != nil || r.Signing == nil {
		return err
	}
	return sign(ctx, r, to, scratch)
}

// rootTree is what of the tree a distribution of WSL has: it boots no kernel of its own.
func rootTree(r *image.Request) (*layers.Tree, error) {
	return image.WithoutBuildFiles(r.Tree, "boot/*", "dev/*", "proc/*", "sys/*")
}

// writeRoot writes the tree as a compressed tar.
func writeRoot(ctx context.Context, r *image.Request, tree *layers.Tree, name string) (err error) {
	task := r.Progress.Start("packing the root tree", tree.Stats().Data, progress.Bytes)
	defer func() { task.Done(err) }()
	out, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	_, err = layers.Compress(ctx, out, layers.PackOptions{Compression: layers.Compression{Algorithm: layers.Gzip}}, func(w io.Writer) error {
		return layers.WriteTar(ctx, w, tree, layers.TarOptions{Progress: task.Add})
	})
	return err
}

// distributionFile configures how WSL takes the distribution in (Microsoft's documentation, "Build a custom Linux distribution for WSL").
const distributionFile = "etc/wsl-distribution.conf"

// withDistributionFile makes the file that names the distribution, where the description has not brought one.
func withDistributionFile(tree *layers.Tree, r *image.Request) (*layers.Tree, error) {
	if _, _, err := tree.Resolve(distributionFile); err == nil {
		return tree, nil
	}
	text := "[oobe]\ndefaultName = " + r.Description.Name + "\n"
	for _, u := range r.Description.Users {
		if u.UID > 0 {
			text += fmt.Sprintf("defaultUid = %d\n", u.UID)
			break
		}
	}
	text += "\n[shortcut]\nenabled = true\n"
	edit := tree.Edit(layers.TimespecOf(r.Repro.Epoch))
	if err := edit.MkdirAll("etc", 0o755); err != nil {
		return nil, err
	}
	if err := edit.WriteFile(distributionFile, []byte(text), 0o644); err != nil {
		return nil, err
	}
	return edit.Tree(), nil
}
