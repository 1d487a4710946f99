package apt

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/imgbuild/imgbuild/rootfs/deb"
	"github.com/imgbuild/imgbuild/rootfs/dpkg"
	"github.com/imgbuild/imgbuild/rootfs/packages"
)

// quickEnd is the end of the names, in the package cache, of packages in a form that is quick to decompress: SUM-OWN.quick, where SUM is the SHA-256 of the
// package as the repository has it and OWN that of the file.
const quickEnd = ".quick"

// quicken returns the files of packages in their quick form, by the names of the packages' files. Those that the cache lacks are made and kept there. A package
// that has none, because it is compressed in another way or a directory of this machine has it, is not among them.
func (s *session) quicken(ctx context.Context, downloads []download) (map[string]string, error) {
	if s.Cache == "" {
		return nil, nil
	}
	cached, err := s.cachedQuick()
	if err != nil {
		return nil, err
	}
	files := make([]string, len(downloads))
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(2) // most of it is another program's work
	for i, d := range downloads {
		if d.sum() == "" {
			continue
		}
		if _, err := os.Stat(filepath.Join(s.cacheDir(), d.sum()+".deb")); err != nil {
			continue
		}
		group.Go(func() (err error) {
			files[i], err = s.quick(ctx, d, cached[d.sum()])
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	quick := map[string]string{}
	for i, d := range downloads {
		if files[i] != "" {
			quick[d.File] = files[i]
		}
	}
	return quick, nil
}

// cachedQuick are the quick forms that the cache has, by the SHA-256 of the packages.
func (s *session) cachedQuick() (map[string][]string, error) {
	entries, err := os.ReadDir(s.cacheDir())
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	cached := map[string][]string{}
	for _, e := range entries {
		if sum, _, ok := strings.Cut(e.Name(), "-"); ok && strings.HasSuffix(e.Name(), quickEnd) {
			cached[sum] = append(cached[sum], filepath.Join(s.cacheDir(), e.Name()))
		}
	}
	return cached, nil
}

// quick returns the quick form of one package, "" if it has none. found are those that the cache may have of it.
func (s *session) quick(ctx context.Context, d download, found []string) (_ string, err error) {
	for _, name := range found {
		_, own, _ := strings.Cut(strings.TrimSuffix(filepath.Base(name), quickEnd), "-")
		if sum, err := packages.Sum(name); err == nil && sum == sumPrefix+own {
			return name, nil
		}
		if err := os.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return "", err
		}
	}
	original := s.path(d)
	if err := verify(original, d); err != nil {
		return "", err
	}
	out, err := os.CreateTemp(s.cacheDir(), ".new-")
	if err != nil {
		return "", err
	}
	defer os.Remove(out.Name())
	done, err := deb.Quicken(ctx, original, out)
	if err = errors.Join(err, out.Chmod(0o644), out.Close()); err != nil || !done {
		return "", err
	}
	sum, err := packages.Sum(out.Name())
	if err != nil {
		return "", err
	}
	name := filepath.Join(s.cacheDir(), d.sum()+"-"+strings.TrimPrefix(sum, sumPrefix)+quickEnd)
	return name, os.Rename(out.Name(), name)
}

// dpkgVersion is the version of the tree's dpkg, "" if it has none.
func (s *session) dpkgVersion(ctx context.Context) (string, error) {
	tree, err := s.Tree(ctx)
	if err != nil {
		return "", err
	}
	installed, err := dpkg.Installed(tree)
	if err != nil {
		return "", err
	}
	for _, p := range installed {
		if p.Name == "dpkg" {
			return p.Version, nil
		}
	}
	return "", nil
}

// readsZstd reports whether a version of dpkg reads packages that are compressed with zstd: Debian's since 1.21.18, Ubuntu's for longer.
func readsZstd(version string) bool {
	if strings.Contains(version, "ubuntu") {
		return true
	}
	for i, part := range strings.SplitN(version, ".", 3) {
		digits := part[:len(part)-len(strings.TrimLeft(part, "0123456789"))]
		n, err := strconv.Atoi(digits)
		least := []int{1, 21, 18}[i]
		if err != nil || n < least {
			return false
		}
		if n > least {
			return true
		}
	}
	return true
}
