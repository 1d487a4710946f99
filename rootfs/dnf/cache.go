package dnf

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/imgbuild/imgbuild/rootfs/packages"
)

// fileKey finds a package's file: the alias of its repository, "" for any, and the file's name.
type fileKey struct{ repository, file string }

// files are the packages that are there: downloaded, or in repositories on this machine.
func (s *Session) files(t tool) (map[fileKey]string, error) {
	files := map[fileKey]string{}
	err := eachPackage(filepath.Join(s.Dir, "cache", t.name), func(name string) {
		if info, err := os.Stat(name); err != nil || info.Size() == 0 {
			return // dnf5 leaves an empty file of what it could not fetch
		}
		// dnf downloads to ALIAS-HASH/packages.
		alias := repositoryOf(filepath.Base(filepath.Dir(filepath.Dir(name))))
		files[fileKey{alias, filepath.Base(name)}] = name
	})
	if err != nil || s.Repositories == nil {
		return files, err
	}
	for _, r := range s.Repositories.List {
		if r.Local == "" {
			continue
		}
		if err := eachPackage(r.Local, func(name string) { files[fileKey{r.Alias, filepath.Base(name)}] = name }); err != nil {
			return nil, err
		}
	}
	return files, nil
}

// eachPackage calls found with all package files below a directory.
func eachPackage(dir string, found func(name string)) error {
	return filepath.WalkDir(dir, func(name string, e fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) && name == dir {
			return nil
		}
		if err == nil && isPackage(e) {
			found(name)
		}
		return err
	})
}

// eachList calls found with the alias of each repository whose list of packages was fetched, and the directory that has it.
func (s *Session) eachList(t tool, found func(alias, dir string) error) error {
	lists, err := filepath.Glob(filepath.Join(s.Dir, "cache", t.name, "*", "repodata"))
	if err == nil && len(lists) == 0 { // microdnf's are one level further down
		lists, err = filepath.Glob(filepath.Join(s.Dir, "cache", t.name, "*", "*", "repodata"))
	}
	for _, list := range lists {
		if err == nil {
			dir := filepath.Dir(list)
			err = found(repositoryOf(filepath.Base(dir)), dir)
		}
	}
	return err
}

// repositoryOf returns the alias of the repository that a directory of dnf's cache is for: its name is ALIAS-HASH.
func repositoryOf(name string) string {
	if i := strings.LastIndexByte(name, '-'); i > 0 && hashed().MatchString(name[i+1:]) {
		return name[:i]
	}
	return name
}

func hashed() *regexp.Regexp { return regexp.MustCompile(`^[0-9a-f]{16}$`) }

// kept reports whether a repository's part of dnf's cache is kept for later builds. Those on this machine have addresses that another build uses for another one.
func (s *Session) kept(name string) bool {
	if strings.HasPrefix(name, ".") || strings.HasSuffix(name, ".json") {
		return false
	}
	if s.Own() {
		return true
	}
	for _, r := range s.Repositories.List {
		if r.Local == "" && (repositoryOf(name) == r.Alias || name == r.Alias+".solv" || name == r.Alias+"-filenames.solvx") {
			return true
		}
	}
	return false
}

// fromCache puts lists and packages of earlier builds where dnf looks for them. It compares them with what it knows of them by itself.
func (s *Session) fromCache(t tool) error {
	if s.Cache == "" {
		return nil
	}
	return s.link(filepath.Join(s.Cache, t.name), filepath.Join(s.Dir, "cache", t.name))
}

// toCache keeps the lists and packages that dnf has now. Of two builds at once, one wins; both keep what they have.
func (s *Session) toCache(t tool) error {
	if s.Cache == "" || s.Offline {
		return nil
	}
	return s.link(filepath.Join(s.Dir, "cache", t.name), filepath.Join(s.Cache, t.name))
}

// link makes the files of one cache available in another. Files that are there under the same name and are older are replaced.
func (s *Session) link(from, to string) error {
	top, err := os.ReadDir(from)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, e := range top {
		if !s.kept(e.Name()) && !isCacheDir(e) {
			continue
		}
		base := filepath.Join(from, e.Name())
		err := filepath.WalkDir(base, func(name string, e fs.DirEntry, err error) error {
			if err != nil || !e.Type().IsRegular() {
				return err
			}
			relative, err := filepath.Rel(from, name)
			if err != nil {
				return err
			}
			// microdnf keeps repositories one level further down.
			if first, rest, ok := strings.Cut(relative, "/"); ok && isCacheName(first) {
				if repository, _, _ := strings.Cut(rest, "/"); !s.kept(repository) {
					return nil
				}
			}
			return replace(name, filepath.Join(to, relative))
		})
		if err != nil && !errors.Is(err, fs.ErrNotExist) { // another build has replaced something
			return err
		}
	}
	return nil
}

// isCacheDir reports whether an entry of microdnf's cache holds the parts of all repositories.
func isCacheDir(e fs.DirEntry) bool { return e.IsDir() && isCacheName(e.Name()) }

func isCacheName(name string) bool { return name == "metadata" || name == "solv" }

// replace makes a file available under another name, in place of one that is not the same.
func replace(from, to string) error {
	var have, want unix.Stat_t
	if err := unix.Stat(from, &want); err != nil {
		return &fs.PathError{Op: "stat", Path: from, Err: err}
	}
	if err := unix.Stat(to, &have); err == nil {
		if have.Dev == want.Dev && have.Ino == want.Ino || have.Size == want.Size && have.Mtim == want.Mtim {
			return nil
		}
		if err := os.Remove(to); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return err
	}
	return packages.LinkOrCopy(from, to)
}
