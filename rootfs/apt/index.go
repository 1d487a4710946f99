package apt

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/imgbuild/imgbuild/description"
	"github.com/imgbuild/imgbuild/rootfs/deb"
	"github.com/imgbuild/imgbuild/rootfs/repositories"
)

// packagesLink is the name, in the directory of an index, that leads to the packages.
const packagesLink = "packages"

// index makes a plain directory of packages a repository, and returns the address of that. A directory that has an index of its own stays as it is. Packages
// without an index have no signature: plain says that they are to be trusted as they are.
func (s *session) index(ctx context.Context, r repositories.Repository) (address string, plain bool, err error) {
	if r.Local == "" {
		return r.URI, false, nil
	}
	for _, name := range []string{"Packages", "Packages.gz", "Packages.xz", "Packages.bz2", "Packages.lz4", "Packages.zst"} {
		if _, err := os.Stat(filepath.Join(r.Local, name)); err == nil {
			return r.URI, false, nil
		}
	}
	if r.Description.RepoGPGCheck == description.True {
		return "", false, r.Description.Errorf("repository_gpgcheck", "make an index with apt-ftparchive and sign it, or leave the attribute out", "the directory %s has no index, and so no signature that could be checked", r.Local)
	}
	text, err := s.packagesIndex(ctx, r.Local)
	if err != nil {
		return "", false, r.Errorf("", "the packages in %s can't be read: %v", r, err)
	}
	dir := filepath.Join(s.dir, "index", r.Alias)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", false, err
	}
	if err := os.Symlink(strings.TrimPrefix(r.URI, "file://"), filepath.Join(dir, packagesLink)); err != nil {
		return "", false, err
	}
	return "file://" + indexDir + "/" + r.Alias, true, os.WriteFile(filepath.Join(dir, "Packages"), text, 0o644)
}

// packagesIndex is the index of all packages in a directory and those below it, in the form of the file Packages.
func (s *session) packagesIndex(ctx context.Context, dir string) ([]byte, error) {
	var names []string
	err := filepath.WalkDir(dir, func(name string, entry fs.DirEntry, err error) error {
		if err == nil && strings.HasSuffix(name, ".deb") && !entry.IsDir() {
			names = append(names, name)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	if len(names) == 0 {
		return nil, errors.New("there are no files with names that end in .deb")
	}
	slices.Sort(names)
	var text bytes.Buffer
	for _, name := range names {
		rest, err := filepath.Rel(dir, name)
		if err != nil {
			return nil, err
		}
		if err := addToIndex(ctx, &text, name, packagesLink+"/"+rest); err != nil {
			return nil, err
		}
	}
	return text.Bytes(), nil
}

// addToIndex writes the paragraph of one package.
func addToIndex(ctx context.Context, text *bytes.Buffer, name, shown string) (err error) {
	a, err := deb.Open(name)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, a.Close()) }()
	control, err := a.Control(ctx)
	if err != nil {
		return err
	}
	file, err := os.Open(name)
	if err != nil {
		return err
	}
	defer file.Close()
	sum := sha256.New()
	size, err := io.Copy(sum, file)
	if err != nil {
		return err
	}
	text.Write(bytes.TrimRight(control.Text, "\n"))
	fmt.Fprintf(text, "\nFilename: %s\nSize: %d\nSHA256: %s\n\n", shown, size, hex.EncodeToString(sum.Sum(nil)))
	return nil
}
