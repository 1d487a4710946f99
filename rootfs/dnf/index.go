package dnf

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/imgbuild/imgbuild/internal/command"
	"github.com/imgbuild/imgbuild/rootfs/repositories"
	"github.com/imgbuild/imgbuild/rootfs/sandbox"
)

// index makes a repository of a plain directory of packages: an index, beside links to the packages. It returns its address.
func (s *Session) index(ctx context.Context, r repositories.Repository) (string, error) {
	if r.Local == "" {
		return "", r.Errorf(`give a directory, or a repository with an index as type="rpm-md"`, "the repository %s has no index and is not on this machine", r)
	}
	if _, err := os.Stat(filepath.Join(r.Local, "repodata/repomd.xml")); err == nil {
		return r.URI, nil
	}
	dir := filepath.Join(s.Dir, "index", r.Alias)
	found, err := linkPackages(r.Local, strings.TrimPrefix(r.URI, "file://"), dir)
	if err != nil {
		return "", fmt.Errorf("linking the packages of %s: %w", r, err)
	}
	if found == 0 {
		return "", r.Errorf("", "the repository %s has no package", r)
	}
	inside := indexDir + "/" + r.Alias
	out := s.Output("createrepo_c", nil)
	spec := sandbox.Spec{Args: []string{"createrepo_c", "--quiet", "--no-database", inside}, Title: "createrepo_c", NoNetwork: true, Stdout: out, Stderr: out}
	s.Show(&spec, sessionDir)
	err = s.Outside(ctx, spec)
	out.Flush()
	var missing *command.MissingError
	if errors.As(err, &missing) {
		return "", r.Errorf(missing.Error(), "making an index for the packages of %s needs createrepo_c", r)
	}
	if err != nil {
		return "", fmt.Errorf("making an index for the packages of %s: %w", r, out.Failed(err))
	}
	return "file://" + inside, nil
}

// linkPackages makes links in dir to all packages below from, which a program in the sandbox knows as inside. It returns how many there are.
func linkPackages(from, inside, dir string) (found int, err error) {
	err = filepath.WalkDir(from, func(name string, e fs.DirEntry, err error) error {
		if err != nil || !isPackage(e) || strings.HasSuffix(name, ".src.rpm") || strings.HasSuffix(name, ".nosrc.rpm") {
			return err
		}
		relative, err := filepath.Rel(from, name)
		if err != nil {
			return err
		}
		link := filepath.Join(dir, relative)
		if err := os.MkdirAll(filepath.Dir(link), 0o755); err != nil {
			return err
		}
		found++
		return os.Symlink(filepath.Join(inside, relative), link)
	})
	return found, err
}

// isPackage reports whether a directory's entry is a package's file.
func isPackage(e fs.DirEntry) bool {
	return !e.IsDir() && strings.HasSuffix(e.Name(), ".rpm")
}
